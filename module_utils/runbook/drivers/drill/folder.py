"""The folder of a drill on the control node, and the drill that is under way in it.

``drill.json`` in it says how far the drill is, so that the next one finds what a killed one left. Nothing outside of
that folder, and of the buckets that bear the drill's name, is ever killed or removed.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process, workspace
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.drivers.drill.drill_clients import Clients
from ansible.module_utils.runbook.drivers.drill.servers import end_server
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTS = ("primary", "lost", "target", "keys")


def now() -> datetime:
    """The one clock of a drill: RTO and RPO are taken from it."""
    return datetime.now(UTC)


class Folder:
    """The drill's folder on the control node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path / "drill.json"
        self.history = path / "history"
        self.lessons = path / "lessons"
        self.logs = path / "logs"
        self.clients = Clients(path)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Folder:
        """The folder that the options of an act name.

        :raises RunbookError: they name none
        """
        if not params["state_dir"].strip():
            raise RunbookError("state_dir: it is empty; name the folder that drills may have for themselves.")
        return cls(Path(params["state_dir"]).resolve())

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Hold the folder for the block.

        :raises RunbookError: another drill's module is at work in it, or it cannot be made
        """
        with workspace.held(self.path, option="state_dir", holder="another drill"):
            yield

    def read(self) -> State | None:
        """How far the drill is; None where none is under way.

        :raises RunbookError: the file is damaged
        """
        try:
            text = self.note.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return State.from_json(text, where=str(self.note))

    def write(self, state: State) -> None:
        """Write down how far it is, in one move."""
        workspace.write_text(self.note, state.to_json())

    def foreign(self) -> list[str]:
        """What lies where a drill would put its servers, though no state says that one did."""
        if self.note.exists():
            return []
        return [name for name in _PARTS if (self.path / name).exists()]

    def lesson_texts(self) -> list[tuple[str, str]]:
        """Names and texts of the files of lessons, oldest first."""
        return [(each.name, each.read_text(errors="replace")) for each in sorted(self.lessons.glob("*.toml"))]

    def stop(self) -> list[str]:
        """End the clients and servers of a drill, but for the one that was restored; what there was. Folders stay."""
        found = ["clients"] if self.clients.end() else []
        return found + [
            f"server {name}" for name in ("primary", "lost", "target") if end_server(self.path / name / "data")
        ]

    def clear(self, restore_path: Path) -> list[str]:
        """End every process of a drill and remove its servers; what there was."""
        found = self.stop()
        restore_dir = restored_server.RestoreDir(restore_path)
        if restore_dir.state():
            with restore_dir.mine():
                restore_dir.clear()
            shutil.rmtree(restore_dir.path, ignore_errors=True)
            found.append("restored server")
        for name in _PARTS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("service.json", "service.tmp", "clients.lock", "ledger.txt"):
            (self.path / name).unlink(missing_ok=True)
        return found


def may_live(controller: str) -> bool:
    """Whether the ansible-playbook that ``drivers/process.py`` named so still runs, as far as can be told from here."""
    found = process.parse(controller)
    return found is not None and found.life() != "dead"
