"""Runs ansible-playbook, each run in a fork of a process that has imported Ansible and our drivers before.

A new Python with all these imports costs a second of CPU, which is half of what a refused playbook takes. From the fork
on a run is what it is elsewhere: the same entry point, arguments, environment, session, output, handlers of its end and
exit code. Ansible reads its configuration as it is imported, so a process serves one folder and one set of the
variables that matter there (``playbooks.py`` sees to that).

A line of JSON comes in for each run. Out go two: its process number, then its exit code and output.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import ansible.constants
from ansible.cli import playbook
from ansible.config.manager import cleanup_tmp_file
from ansible.executor import playbook_executor, task_queue_manager
from ansible.plugins.action import normal
from ansible.plugins.callback import default
from ansible.plugins.connection import local
from ansible.plugins.strategy import linear

ROOT = Path(__file__).resolve().parents[1]
#: Imported for their own sake: Ansible finds them by name, later and one by one.
WARM = (playbook_executor, task_queue_manager, normal, default, local, linear)


def warm() -> None:
    """Import what the modules, the action plugin and the callback are going to import."""
    plugin = runpy.run_path(str(ROOT / "playbooks/action_plugins/forked_module.py"))
    for path in sorted((ROOT / "library").glob("*.py")):
        plugin["load"](path.stem)
    runpy.run_path(str(ROOT / "playbooks/callback_plugins/run_record.py"))
    # A folder for this process alone; each run makes its own.
    atexit.unregister(cleanup_tmp_file)
    cleanup_tmp_file(ansible.constants.DEFAULT_LOCAL_TMP)
    gc.freeze()


def serve() -> list[str] | None:
    """Answer until the tests close standard input. In a fork: become the run, and return its arguments."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        wanted = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(answers.fileno())
            os.close(reader)
            become(wanted, writer)
            return list(wanted["arguments"])
        os.close(writer)
        print(json.dumps({"pid": child}), file=answers, flush=True)
        with os.fdopen(reader, encoding="utf-8", errors="replace") as output:
            said = output.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "output": said}), file=answers, flush=True)
    return None


def become(wanted: dict[str, Any], output: int) -> None:
    """Session, files, environment and temporary folder as of a process that was started for this run."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, place in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(number, place)
    os.close(nothing)
    os.close(output)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(wanted["environ"])
    tempfile.tempdir = None
    settings = ansible.constants
    settings.set_constant("DEFAULT_LOCAL_TMP", settings.config.get_config_value("DEFAULT_LOCAL_TMP"))


def main() -> None:
    """Entry point, of the server and of each run."""
    warm()
    arguments = serve()
    if arguments is not None:
        sys.argv = arguments
        playbook.main()


if __name__ == "__main__":
    main()
