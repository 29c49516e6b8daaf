"""What a restore writes beside the backup: the outcome of its proof, and that the backup is still needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.s3 import bucket
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_retention import Hold
from ansible.module_utils.runbook.rules.backup.defects import DAMAGED
from ansible.module_utils.runbook.rules.backup.proof import Circumstances, Document

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.rules.backup.proof import Proof
    from ansible.module_utils.runbook.rules.backup.restore import Found
    from ansible.module_utils.runbook.rules.run import Run


class Evidence:
    """Writes beside one backup; :attr:`key` is the object that holds the proof, None while there is none."""

    def __init__(
        self, store: Store, found: Found, *, run_id: str | None, server_version: int, clock: Clock, is_asked: bool
    ) -> None:  # fmt: skip
        """Nothing is written yet.

        :param is_asked: whether the outcome of the proof is written at all
        """
        self._store, self._found, self._clock, self._is_asked = store, found, clock, is_asked
        self._run_id, self._server_version = run_id or "", server_version
        self.key: str | None = None
        #: Where the hold is, what it says, and what was there before.
        self._hold: tuple[str, Hold, bytes | None] | None = None

    def record(self, proof: Proof | None) -> str:
        """Write a proof; a sentence where that failed."""
        if proof is None or not self._is_asked:
            return ""
        return self._write(Document.of(proof, self._found.manifest, self._circumstances()))

    def record_failure(self, error: RunbookError) -> str:
        """Write that the proof came to no end; a sentence where that failed. A proof that was written stays the last.

        :param error: why; its code says whether that is the backup's fault
        """
        if self.key or not self._is_asked:
            return ""
        made = self._circumstances()
        is_damaged = error.code == DAMAGED
        return self._write(Document.of_failure(self._found.manifest, error.message, made, is_damaged=is_damaged))

    def _circumstances(self) -> Circumstances:
        passed_s = self._clock.passed_s()
        return Circumstances(datetime.now(UTC), self._run_id, self._server_version, passed_s, self._found.sha256)

    def _write(self, document: Document) -> str:
        key = self._found.folder + document.name
        try:
            self._store.put(key, document.to_bytes(), if_absent=True)
        except RunbookError as error:
            return f" The proof could not be written beside the backup: {error.message}"
        self.key = key
        return ""

    def hold(self, run: Run, environment: str | None, name: str, target: str, *, days: int) -> None:
        """Keep the backup for some days, because a database is being restored from it.

        :param environment: of this run and of the bucket
        :param name: of the object that says so
        :param target: the database
        :raises RunbookError: it may not, or cannot, be written
        """
        if not environment:
            raise RunbookError("environment: it is empty.")
        # What is restored from may be another bucket than the inventory's: the copy in a second region.
        permits.require_environment(run, environment)
        self._store.require_environment(environment)
        until = bucket.clock(self._store) + timedelta(days=days)
        key = self._found.folder + name
        # Another server's database of that name may wait to be swapped in.
        before = self._store.read(key, most_bytes=1 << 16) if self._store.head(key) else None
        hold = Hold(f"{target} is being restored from it", until.isoformat(), self._run_id)
        self._store.put(key, hold.to_bytes())
        self._hold = (key, hold, before)

    def settle_hold(self, made: str) -> None:
        """Say what the backup is held for now that the restore is over; nothing is done where it is not held.

        :param made: the database that was restored and stays; empty where none does, so that the hold goes again
        :raises RunbookError: it could not be written
        """
        if self._hold is None:
            return
        key, hold, before = self._hold
        if made:
            self._store.put(key, replace(hold, reason=f"{made} was restored from it").to_bytes())
        elif before is not None:
            self._store.put(key, before)
        else:
            bucket.hide(self._store, key)
