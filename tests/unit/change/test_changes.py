"""Several writers to one change, and who finds it afterwards; on a folder, as where there is one bastion only."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done
from ansible.module_utils.runbook.drivers.state_store import ConflictError, Folder
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.change.change import THINGS, Change
from ansible.module_utils.runbook.rules.run import Run
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.change.changes import Open
    from ansible.module_utils.runbook.drivers.state_store import Reading

RUN = Run("run-1", None, "bastion/1", str(process.own()))


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    root = tmp_path / "state"
    root.mkdir(mode=0o700)
    return Folder(root, "sandbox")


@pytest.fixture
def changes(store: Folder) -> Changes:
    return Changes(store, RUN)


def change(change_id: str = "run-1", machine: str = str(process.own())) -> Change:
    now = datetime.now(UTC)
    return Change(
        change_id, "weekly_db.yml", "weekly maintenance", ("database a",), machine, now, now + timedelta(hours=2)
    )


def test_of_writers_at_once_none_is_lost(changes: Changes):
    changes.open(change())

    def answer(number: int) -> None:
        changes.answer(f"item-{number}", Status.OK, "done")

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = changes.current()
    assert found is not None
    assert sorted(found.items) == [f"item-{number}" for number in range(6)]


def test_a_change_is_opened_once(changes: Changes):
    changes.open(change())
    with pytest.raises(ConflictError):
        changes.open(change())


def test_a_closed_change_is_written_to_no_more(changes: Changes):
    changes.open(change())
    changes.close("run-1")
    changes.close("run-1")
    assert changes.current() is None
    with pytest.raises(RunbookError, match="is not open") as error:
        changes.opened("ticket", {"id": "1"})
    assert error.value.code == "change_closed"


def test_the_next_run_finds_what_a_dead_one_opened(store: Folder):
    own = process.own()
    assert own is not None
    for change_id, machine in (
        ("run-0", str(replace(own, started="1"))), ("run-1", str(own)), ("run-2", "other-machine 1 1"),
    ):  # fmt: skip
        Changes(store, replace(RUN, id=change_id)).open(change(change_id, machine))

    def said(each: Open) -> tuple[str, str, bool]:
        return each.change.id, each.holder, each.is_abandoned

    assert list(map(said, Changes(store, RUN).all())) == [
        ("run-0", "dead", True), ("run-1", "alive", False), ("run-2", "unknown", False),
    ]  # fmt: skip


def test_a_change_that_cannot_be_read_is_not_passed_by(store: Folder, changes: Changes):
    changes.open(change())
    path = next(Path(str(store)).glob("changes/*.json"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunbookError, match="truncated") as error:
        changes.all()
    assert error.value.status is Status.UNKNOWN


@pytest.mark.parametrize("at_s", [0, 1, 2])
def test_what_this_run_opened_is_ended_without_the_store_and_is_unknown(store: Folder, monkeypatch, at_s: int):
    """The store is down from the first look on, or from a later one."""
    changes = Changes(store, RUN, is_end=True)
    changes.open(change())
    changes.opened("silence", {"id": "1"})
    looks = iter([store.read] * at_s)

    def read(name: str) -> Reading:
        look = next(looks, None)
        if look is None:
            raise UnreachableError("The store is down.")
        return look(name)

    monkeypatch.setattr(store, "read", read)
    ended = []

    def act() -> Done:
        changes.require_current()
        ended.append("silence")
        changes.opened("silence", None)
        return Done("Removed.", facts={"changed": True})

    with pytest.raises(RunbookError, match=r"Removed\. The change does not know of it: The store is down\.") as error:
        changes.conduct("silence_removed", act, blocks=True)
    assert (ended, error.value.status, error.value.context["changed"]) == (["silence"], "unknown", True)


def test_nothing_is_opened_without_the_store(store: Folder, monkeypatch):
    changes = Changes(store, RUN)
    changes.open(change())
    monkeypatch.setattr(store, "read", lambda _name: (_ for _ in ()).throw(UnreachableError("The store is down.")))
    with pytest.raises(UnreachableError):
        changes.require_current()


def test_what_ends_by_itself_is_over_once_its_time_is():
    made = replace(change(), opened={thing: {} for thing in THINGS})
    assert made.lasting(made.until - timedelta(seconds=1)) == sorted(THINGS)
    assert made.lasting(made.until) == ["incident", "ticket"]


@pytest.mark.parametrize(("line", "blocks", "stops"), [
    ("maintenance_mode", True, True),
    ("backup", True, True),
    ("maintenance_mode", False, False),
    # What comes after the work is told to a person, and ends the rest all the same.
    ("soak", True, False),
    ("work", True, False),
])  # fmt: skip
def test_the_work_does_not_begin_on_what_is_unknown(changes, line, blocks, stops):
    changes.open(change())

    def unseen() -> Done:
        return Done("Nobody could see it.", status=Status.UNKNOWN)

    if not stops:
        assert changes.conduct(line, unseen, blocks=blocks).status is Status.UNKNOWN
        return
    with pytest.raises(RunbookError, match=r"Nobody could see it\.") as error:
        changes.conduct(line, unseen, blocks=blocks)
    assert error.value.status is Status.UNKNOWN
