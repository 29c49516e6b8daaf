"""A change that is open, for modules that answer an item of its checklists."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.change import Change
from conftest import ENVIRONMENTS, this_run

if TYPE_CHECKING:
    from pathlib import Path

    from ansible.module_utils.runbook.rules.run import Run


def open_change(folder: Path, run: Run | None = None) -> Changes:
    """Open one in a store below ``folder``, for a run of which modules of the tests are part."""
    run = run or this_run()
    store = folder / "state"
    store.mkdir(mode=0o700, exist_ok=True)
    changes = Changes(Folder(store, ENVIRONMENTS[-1]), run)
    now = datetime.now(UTC)
    changes.open(
        Change(
            str(run.id), "test.yml", "a test", ("database a",), str(run.process), now, now + timedelta(hours=2)
        )
    )  # fmt: skip
    return changes


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Options of a module that answers an item of it."""
    return {"state_directory": str(folder / "state"), "item": "the_item"} | more


def item(changes: Changes, name: str = "the_item") -> tuple[str, str, str]:
    """How an item was answered: status, sentence, proof."""
    current = changes.current()
    assert current is not None
    found = current.items[name]
    return str(found.status), found.msg, found.proof
