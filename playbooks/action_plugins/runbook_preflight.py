"""Hands the module runbook_preflight what the inventory lacks for a change, which only Ansible can see.

The variables of a change are those of a role whose tasks come later, and secrets are among them: the module is told
what is missing, and no value.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

_SPEC = importlib.util.spec_from_file_location(
    "runbook_forked_module", Path(__file__).resolve().with_name("forked_module.py")
)
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("forked_module.py is not beside this file.")
forked: Any = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = forked
_SPEC.loader.exec_module(forked)

# Found under this name once forked_module.py has put the project's module_utils in its place.
from ansible.module_utils.runbook.rules.change import readiness


class ActionModule(forked.ActionModule):  # type: ignore[misc] # loaded by its path
    """Looks at the variables of a change where the operation is run as one."""

    name = "runbook_preflight"
    module = forked.load(name)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say what the inventory lacks, then run the module."""
        given, arguments = task_vars or {}, self._task.args

        def read() -> dict[str, Any]:
            raw = self._defaults("change") | given
            wanted = [name for name in raw if name.startswith(readiness.PREFIX) or name in readiness.NAMES]
            return dict(self._read(raw, wanted)[0])

        arguments["change_lacks"] = readiness.before(
            str(arguments.get("playbook")), str(arguments.get("environment")), arguments.get("change_needs") or {}, read
        )
        return dict(super().run(tmp, task_vars))
