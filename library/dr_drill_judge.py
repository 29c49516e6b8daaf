#!/usr/bin/python
"""Module dr_drill_judge: the verdict on a drill, and its document."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_judge
short_description: Judge a disaster-recovery drill
description:
  - Compares with the objectives, writes the drill's document and its file of lessons, and ends the drill.
  - It fails where the drill was not passed. Each of these is a reason, an objective that is missed or unknown, a check
    that is not ok, and something that could not be removed.
options:
  self_test:
    description:
      - Whether it succeeds where the injected fault was found and named, and fails where it was not. Such a drill does
        not go into the history.
    type: bool
    default: false
  backup_interval_s:
    description:
      - Seconds from one logical backup to the next; 0 for none. It says what can be promised, together with what the
        newest good one took. A drill that looks at none promises nothing by them.
    type: int
    default: 86400
  archive_timeout_s:
    description:
      - PostgreSQL's C(archive_timeout) of the live server. It says what can be promised, where the drill found an
        archive from which something can be restored, together with what the archiver took for the last segment, where
        the server tells. With 0 only full segments are archived, and nothing can be promised.
    type: int
    default: 60
  production_bytes:
    description:
      - Size of production's database, for which the time to restore is estimated. Without it, that of the live one.
    type: int
extends_documentation_fragment:
  - runbook_drill
attributes:
  check_mode:
    description: Does nothing, as no drill is started in check mode.
    support: full
  diff_mode:
    description: Nothing is shown.
    support: none
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Judge
  dr_drill_judge:
    state_dir: /srv/runbook/drill
    environment: production
    backup_interval_s: 86400
    archive_timeout_s: 60
"""

RETURN = r"""
msg:
  description: The verdict, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) where something could not be judged.
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
drill:
  description: The drill's document.
  type: dict
  returned: except in check mode
document:
  description: The file that it was written to; null for a self-test.
  type: str
  returned: except in check mode
duration_s:
  description: Seconds that it took.
  type: float
  returned: when the drill was passed
"""

import json
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, workspace
from ansible.module_utils.runbook.drivers.drill import drill, folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.drill import documents, faults, lessons, scenarios
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Options whose value must lie between two bounds.
BOUNDS = {"backup_interval_s": (0, 31_536_000), "archive_timeout_s": (0, 86_400)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    own: dict[str, dict[str, Any]] = {
        "self_test": {"type": "bool", "default": False},
        "backup_interval_s": {"type": "int", "default": 86400},
        "archive_timeout_s": {"type": "int", "default": 60},
        "production_bytes": {"type": "int"},
    }
    return drill.argument_spec() | own


def core(context: Context) -> dict[str, Any]:
    """Compare with the objectives; write the drill's document."""
    params = context.params
    context.require_bounds(BOUNDS)
    permits.require_environment(context.run, params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(params) as current:
        document = documents.make(
            current.state, folder.now(), backup_interval_s=params["backup_interval_s"] or None,
            archive_timeout_s=params["archive_timeout_s"], production_bytes=params["production_bytes"],
        )  # fmt: skip
        path = None if params["self_test"] else write(current.folder, document)
        current.folder.note.unlink(missing_ok=True)
        facts: dict[str, Any] = {"drill": document, "document": path}
        if params["self_test"] and document["injected"]:
            return current.told(self_tested(current, document, facts), **facts)
        return context.conclude(Status(document["status"]), **current.told(document["msg"], **facts))


def write(place: folder.Folder, document: dict[str, Any]) -> str:
    """Write the document and its file of lessons; the path of the first."""
    today = folder.now().date()
    path = place.history / f"{document['drill_id']}.json"
    notes = place.lessons / f"{document['drill_id']}.toml"
    missing = [each for name, text in place.lesson_texts() for each in lessons.owed(text, source=name, today=today)]
    document["lessons"] = {"path": str(notes), "missing": missing}
    workspace.write_text(notes, lessons.template(document))
    workspace.write_text(path, json.dumps(document, indent=1) + "\n")
    return str(path)


def self_tested(current: drill.Drill, document: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """That the injected fault was found.

    :raises RunbookError: it was not
    """
    fault, way = document["injected"], current.state.way
    if not faults.is_found(fault, document):
        raise RunbookError(f"{fault} in {way} was injected and not found: {document['msg']}", changed=True, **facts)
    return f"{fault} in {way} was found: {document['msg']}"


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_judge", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
