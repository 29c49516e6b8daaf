"""The dump in a backup: its streams as pg_dump wrote them, and the programs of PostgreSQL that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.backup import restore
from ansible.module_utils.runbook.drivers.supabase import project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.backup.restore import Feed, Filler, Program, Unpacked
    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.rules.backup.manifest import Object
    from ansible.module_utils.runbook.rules.supabase.managed import ScriptFilter


class Dump:
    """One of them, on its way into one database."""

    def __init__(self, store: Store, filler: Filler, decrypt: Sequence[str]) -> None:
        """Nothing is read yet.

        :param decrypt: the command that decrypts an object; empty where none is encrypted
        """
        self._store, self._filler, self._decrypt = store, filler, decrypt

    def unpack(self, objects: Sequence[Object]) -> Unpacked:
        """Objects of one stream, as pg_dump wrote them."""
        return restore.Unpacked(self._store, objects, self._filler.programs, self._decrypt)

    def read(self, stored: Object) -> str:
        """A small object, whole."""
        pieces, source = [], self.unpack([stored])
        while piece := source.read():
            pieces.append(piece)
        return b"".join(pieces).decode()

    def fetch(self, stored: Object, path: Path, check: Callable[[], None]) -> int:
        """Bring the definitions to a file, unless it is there; its size in bytes."""
        return path.stat().st_size if path.exists() else restore.fetch(self.unpack([stored]), path, check)

    def contents(self, path: Path) -> str:
        """What ``pg_restore --list`` says of the definitions in a file."""
        return project.contents(self._filler.path("pg_restore"), path)

    def filtered(self, objects: Sequence[Object], script_filter: ScriptFilter) -> project.FilteredScript:
        """A data stream as SQL, without what does not go into the database."""
        where = self._store.url(objects[0].key)

        def explain(program: str, code: int | None, said: str) -> str:
            errors = [*self._filler.errors(said.splitlines()), f"{program} ended with {code}"]
            return f"{where} cannot be read: {errors[0]}; take another backup."

        return project.FilteredScript(
            self.unpack(objects), script_filter, self._filler.programs, self._filler.path("pg_restore"), explain
        )

    def start(self, objects: Sequence[Object], script_filter: ScriptFilter | None) -> tuple[Feed, Program]:
        """A data stream, and the program that loads it; from the main thread.

        :param script_filter: takes out of it what does not go into the database; None where all does
        """
        if script_filter is None:
            return self.unpack(objects), self._filler.start("data", fed=True)
        return self.filtered(objects, script_filter), self._filler.start_sql()
