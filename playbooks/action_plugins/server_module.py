"""Runs a module of this project that writes on a server; links to this file bear the modules' names.

Such a module runs where the server is, and the permits of its run lie here, on the bastion. So they are asked for here,
before the module is sent on its way, and it is told the answer by its option ``permitted``. Called in any other way it
finds neither that nor the run's folder, and refuses.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
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
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.run import Run


class ActionModule(forked.ActionModule):  # type: ignore[misc] # loaded by its path
    """Asks for the run's permit, then runs the module on the server."""

    name = Path(__file__).stem
    module = forked.load(name)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what this run was not permitted."""
        host = str((task_vars or {}).get("inventory_hostname", ""))
        if "permitted" in self._task.args:
            return dict(
                forked.refused("permit", "permitted: the action plugin alone sets it; take it out of the task.")
            )
        try:
            permits.require_server(replace(Run.from_environ(os.environ), host=host, check_mode=self._task.check_mode))
        except RunbookError as error:
            return dict(forked.refused("permit", error.message))
        self._task.args["permitted"] = True
        return dict(super().run(tmp, task_vars))
