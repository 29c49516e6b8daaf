"""Runs modules one after the other, each in a fork of a process that has imported it before.

As the action plugin does it (docs/adr/0017), and for its reason: a new Python with all its imports costs half a second
of CPU, which is most of what a test of a module would take. A line of JSON comes in for each module, one goes out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("forked_module", ROOT / "playbooks/action_plugins/forked_module.py")
assert spec is not None
assert spec.loader is not None
forked_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(forked_module)

from ansible.module_utils.runbook.drivers.s3 import s3  # noqa: E402 - the plugin shows the way to it


def main() -> None:
    """Answer until the tests close standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What the modules print goes into their answer; nothing else may stand between the lines.
    os.dup2(2, 1)
    # Read once, for all that are forked off.
    s3.connect(endpoint_url="http://127.0.0.1:1", region="us-east-1", access_key="none", secret_key="none")
    modules = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        which = (wanted["root"], wanted["module"])
        if which not in modules:
            vars(forked_module)["PROJECT"] = Path(wanted["root"])
            modules[which] = forked_module.load(wanted["module"])
        os.environ.clear()
        os.environ.update(wanted["environ"])
        # Found out once, and a module of its own looks into TMPDIR.
        tempfile.tempdir = None
        parameters = json.dumps({"ANSIBLE_MODULE_ARGS": wanted["options"]}).encode()
        answers.write(json.dumps(forked_module.in_fork(modules[which], parameters, {})) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
