"""The run's record on disk, its reports, and the progress that people watch.

Used by the callback ``run_record`` and by ``tools/render_record.py``, in the process of ``ansible-playbook`` itself.
Modules never import it.
"""
