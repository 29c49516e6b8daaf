"""Documents of the state store that one module after the other writes to: proofs of contacts, reviews of incidents."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.state_store import ConflictError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.state import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading, StateStore
    from ansible.module_utils.runbook.rules.run import Run

#: How often a document is written again that somebody else wrote to meanwhile.
_ATTEMPTS = 10


def store_of(params: Mapping[str, Any], environment: str) -> StateStore:
    """The store that a module's options name.

    :raises RunbookError: they name none, or two
    """
    settings = {name: value for name, value in params.items() if name.startswith("state_")}
    store = state_store.from_settings(settings, environment)
    if store is None:
        raise RunbookError(
            "state_bucket, state_directory: neither is set, and what has to be known after this run has no place; name "
            "a bucket, or a folder where there is one bastion only."
        )
    return store


class Documents:
    """The documents of the environment that preflight approved."""

    def __init__(self, store: StateStore, run: Run, environment: str) -> None:
        self._store = store
        self._run = run
        #: What the inventory is.
        self.environment = environment

    @classmethod
    def from_params(cls, params: Mapping[str, Any], run: Run) -> Documents:
        """The store that a module's options name.

        :raises RunbookError: no preflight passed, or the options name no store or two
        """
        # Words about a run are written after its window too.
        environment = permits.require_approval(run, may_be_late=True).environment
        return cls(store_of(params, environment), run, environment)

    def read(self, name: str) -> Reading:
        """A document, or that there is none, with the store's clock.

        :raises RunbookError: the store cannot be asked, or the document cannot be read; the status is ``unknown``
        """
        return self._store.read(name)

    def names(self, prefix: str) -> list[str]:
        """Names of the documents that begin with ``prefix``.

        :raises RunbookError: the store cannot be asked
        """
        return self._store.names(prefix)

    def update(self, name: str, act: Callable[[Reading], Mapping[str, Any] | None]) -> bool:
        """Read a document, and write the body that ``act`` makes of it, whoever else writes to it meanwhile.

        :param act: is called again where somebody was faster; None: it stays as it is
        :returns: whether it was written, or would be in check mode
        :raises RunbookError: it cannot be read, or whether it was written is unknown
        """
        for attempt in range(1, _ATTEMPTS + 1):
            found = self._store.read(name)
            wanted = act(found)
            if wanted is None or (found.document is not None and found.document.body == wanted):
                return False
            if self._run.check_mode:
                return True
            document = Document(
                name, dict(wanted), str(self._run.id), self._run.controller or "unknown",
                datetime.now(UTC).isoformat(), secrets.token_hex(16),
            )  # fmt: skip
            try:
                if found.document is None:
                    self._store.create(document)
                else:
                    self._store.replace(document, found.version)
            except ConflictError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return True
        raise AssertionError

    def remove(self, name: str) -> None:
        """Remove a document; in check mode, and where there is none, nothing.

        :raises RunbookError: whether it was removed is unknown
        """
        found = self._store.read(name)
        if found.document is not None and not self._run.check_mode:
            self._store.delete(name, found.version)
