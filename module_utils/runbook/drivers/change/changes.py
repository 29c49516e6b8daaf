"""Open changes in the state store: the modules of a run, and whoever comes after a kill, write to one document."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.runbook.drivers import permits, process, state_store
from ansible.module_utils.runbook.drivers.change.documents import store_of
from ansible.module_utils.runbook.drivers.state_store import ConflictError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.change import ENDS_KEPT, Change, Item
from ansible.module_utils.runbook.rules.state import Document
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.state_store import StateStore
    from ansible.module_utils.runbook.rules.lease import Life
    from ansible.module_utils.runbook.rules.run import Run

_T = TypeVar("_T")
#: How often a document is written again that somebody else wrote to meanwhile.
_ATTEMPTS = 10


@dataclass(frozen=True)
class Open:
    """A change that the store holds."""

    change: Change
    #: What is known of its process from here.
    holder: Life
    #: The store's clock.
    now: datetime
    #: Who asks is there to end what is kept, too.
    ends_kept: bool = False

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody works on it any more."""
        return self.change.is_abandoned(self.holder, self.now, ends_kept=self.ends_kept)


@dataclass(frozen=True)
class Done:
    """What became of an item of a checklist."""

    #: One sentence.
    msg: str
    #: An address, an id, a figure. No secret.
    proof: str = ""
    #: The rest of the module's result.
    facts: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.OK


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of a module that does an item; ``doc_fragments/runbook_change.py`` and ``runbook_state.py`` tell them."""
    return state_store.argument_spec() | {
        "item": {"type": "str", "required": True},
        "change_id": {"type": "str"},
        "blocks": {"type": "bool", "default": True},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }


class Changes:
    """The open changes of one environment.

    An announcement of maintenance that a later run carries out is no change: nothing of it has to be ended. It is a
    document of the same form in a folder of its own, and begins with its first answer.

    :param change_id: the change that is worked on, where it is not this run's own
    :param announced_as: names the announcement that is worked on in place of a change
    :param ends_kept: the run is there to end what is kept, too
    :param is_end: something is ended that this run opened, whose name is known without the store: a store that is down
        then keeps nobody from doing it, and makes it unknown
    """

    def __init__(
        self, store: StateStore, run: Run, change_id: str | None = None, announced_as: str = "", *,
        ends_kept: bool = False, is_end: bool = False,
    ) -> None:  # fmt: skip
        self._ends_kept = ends_kept
        self._store = store
        self._run = run
        self._kind = "announcements" if announced_as else "changes"
        #: The change that is worked on.
        self.id = announced_as or change_id or str(run.id)
        self._is_end = is_end and self.id == run.id
        #: Why the store was not asked any more.
        self._lost: RunbookError | None = None

    @classmethod
    def from_params(
        cls, params: Mapping[str, Any], run: Run, announced_as: str = "", *, is_end: bool = False
    ) -> Changes:  # fmt: skip
        """The store that a module's options name, for the environment that preflight approved.

        :param announced_as: as for the class, as is ``is_end``
        :raises RunbookError: no preflight passed, the options name no store or two, or a change that is not abandoned
        """
        # What a change opened is ended after its window too; opening it is change_open's, which is refused then.
        approval = permits.require_approval(run, may_be_late=True)
        store, ends_kept = store_of(params, approval.environment), approval.playbook in ENDS_KEPT
        made = cls(store, run, params.get("change_id"), announced_as, ends_kept=ends_kept, is_end=is_end)
        if made.id != run.id and not announced_as:
            made._require_abandoned()
        return made

    def _require_abandoned(self) -> None:
        """Refuse the change of another run that may be at work."""
        for each in self.all():
            if each.change.id == self.id and not each.is_abandoned:
                raise RunbookError(
                    f"change_id: {each.change.describe()} is not abandoned: its run "
                    f"{'lives' if each.holder == 'alive' else 'is on another machine'}; wait for its end."
                )

    def open(self, change: Change) -> None:
        """Write a change that begins.

        :raises RunbookError: it is there, or whether it was written is unknown
        """
        self._store.create(self._document(change))

    def current(self) -> Change | None:
        """The change that is worked on; None before it was opened and after it was closed.

        :raises RunbookError: the store cannot be asked
        """
        return self._unless_lost(self._current, None)

    def _current(self) -> Change | None:
        return self._of(self._store.read(Change.document_name(self.id, self._kind)).document)

    def _of(self, document: Document | None) -> Change | None:
        if document is not None:
            return Change.of(document)
        if self._kind == "changes":
            return None
        now, playbook = datetime.now(UTC), permits.require_approval(self._run, may_be_late=True).playbook
        return Change(self.id, playbook, "Announcement of maintenance", (), self._run.process or "", now, now)

    def _unless_lost(self, act: Callable[[], _T], otherwise: _T) -> _T:
        """What the store says; ``otherwise`` where it is down and something is ended."""
        if self._lost is None:
            try:
                return act()
            except RunbookError as error:
                if not self._is_end:
                    raise
                self._lost = error
        return otherwise

    def all(self) -> list[Open]:
        """Every open change of the environment, the oldest first.

        :raises RunbookError: the store cannot be asked, or one of them cannot be read
        """
        return self._unless_lost(self._all, [])

    def _all(self) -> list[Open]:
        found = []
        for name in self._store.names("changes/"):
            reading = self._store.read(name)
            if reading.document is not None:
                change = Change.of(reading.document)
                holder = process.parse(change.machine)
                found.append(Open(change, holder.life() if holder else "unknown", reading.now, self._ends_kept))
        return sorted(found, key=lambda each: (each.change.opened_at, each.change.id))

    def require_current(self) -> Change | None:
        """The change that is worked on, which has to be open; None in check mode, where nobody opened it.

        :raises RunbookError: it is not open, or the store cannot be asked
        """
        found = self.current()
        if found is None and self._lost is None and not self._run.check_mode:
            raise _not_open(self.id)
        return found

    def update(self, change_id: str, act: Callable[[Change], Change]) -> Change:
        """Read a change, and write what ``act`` makes of it, whoever else writes to it meanwhile; not in check mode.

        :param act: is called again with the newer change where somebody was faster
        :raises RunbookError: it is not there, or whether it was written is unknown
        """
        for attempt in range(1, _ATTEMPTS + 1):
            found = self._store.read(Change.document_name(change_id, self._kind))
            change = self._of(found.document)
            if change is None:
                raise _not_open(change_id)
            wanted = act(change)
            if self._run.check_mode:
                return wanted
            try:
                if found.document is None:
                    self._store.create(self._document(wanted))
                else:
                    self._store.replace(self._document(wanted), found.version)
            except ConflictError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return wanted
        raise AssertionError

    def opened(self, thing: str, what: Mapping[str, Any] | None) -> None:
        """Note for whoever comes next that this run opened something, or (None) that it is over.

        :raises RunbookError: as :meth:`update`; or something would be opened for the change of another run
        """
        if what is not None and self.id != self._run.id:
            raise RunbookError("change_id: it names a change whose run is gone, and such a change is only ended.")
        self._update(lambda change: change.with_opened(thing, what))

    def refused(self, thing: str, before: Change | None) -> None:
        """Take back what :meth:`opened` noted of a thing that was refused, unless an earlier attempt may have made it.

        :param before: the change as it was before this attempt noted anything
        :raises RunbookError: as :meth:`update`
        """
        if before is not None and thing not in before.opened:
            self.opened(thing, None)

    def answer(self, name: str, status: Status, msg: str, proof: str = "") -> None:
        """Answer an item of the change's checklists.

        :raises RunbookError: as :meth:`update`
        """
        item = Item(status, msg, datetime.now(UTC).isoformat(timespec="seconds"), proof)
        self._update(lambda change: change.with_item(name, item))

    def _update(self, act: Callable[[Change], Change]) -> None:
        self._unless_lost(lambda: self.update(self.id, act), None)

    def conduct(
        self, item: str, act: Callable[[], Done], *, blocks: bool, once_in: Change | None = None
    ) -> Done:  # fmt: skip
        """Do what an item of a checklist asks for, and write the answer down; a check mode only asks.

        :param item: a line of the checklists that each database answers is answered for this run's host
        :param act: does it; what it raises is the answer too
        :param blocks: nothing goes on without it; otherwise it is unknown, and with it the run. Before the work that
            it is unknown is reason enough not to begin
        :param once_in: the change, where an item that it has as ok is not done again; None for what looks again
        :raises RunbookError: it was not done, and it blocks; or the store could not be written to
        """
        item = Change.item_of(item, self._run.host)
        answered = once_in.items.get(item) if once_in else None
        # That an announcement was skipped is no reason to skip it when there is somebody to tell.
        is_done = answered is not None and answered.status is Status.OK
        if answered is not None and is_done and (answered.is_proven or self._kind == "changes"):
            return Done(f"Done already: {answered.msg}", answered.proof, _answered(item, answered.proof))
        try:
            done = self._with_word(item, act())
        except RunbookError as error:
            if not self._run.check_mode:
                self.answer(item, error.status, error.message)
            facts = error.context | _answered(item)
            if blocks:
                raise self._with_way_back(item, RunbookError(error.message, **facts)) from None
            return Done(error.message, facts=facts, status=Status.UNKNOWN)
        facts = done.facts | _answered(item, done.proof)
        if done.status is Status.UNKNOWN and blocks and Change.precedes_work(item) and not self._run.check_mode:
            raise RunbookError(done.msg, **facts | {"status": Status.UNKNOWN})
        return replace(done, facts=facts)

    def _with_word(self, item: str, done: Done) -> Done:
        """Write the answer down.

        :raises RunbookError: the store is down, so that the next run ends once more what was ended
        """
        if not self._run.check_mode:
            self.answer(item, done.status, done.msg, done.proof)
        if self._lost is not None:
            raise RunbookError(
                f"{done.msg} The change does not know of it: {self._lost.message}", **done.facts, status=Status.UNKNOWN
            )
        return done

    def _with_way_back(self, item: str, error: RunbookError) -> RunbookError:
        """What is not right after the work, with the way back that the change named."""
        change = self.current() if error.status is Status.BREACH else None
        way = change.way_back(item) if change is not None else ""
        return RunbookError(f"{error.message} The way back: {way}", **error.context) if way else error

    def close(self, change_id: str) -> None:
        """Remove a change all of whose things are over; one that is gone already is no error.

        :raises RunbookError: somebody wrote to it meanwhile, or whether it was removed is unknown
        """
        found = self._store.read(Change.document_name(change_id))
        if found.document is not None:
            self._store.delete(Change.document_name(change_id), found.version)

    def _document(self, change: Change) -> Document:
        return Document(
            Change.document_name(change.id, self._kind), change.body(), str(self._run.id),
            self._run.controller or "unknown", datetime.now(UTC).isoformat(), secrets.token_hex(16),
        )  # fmt: skip


def _not_open(change_id: str) -> RunbookError:
    return RunbookError(
        f"State store: the change {change_id} is not open; run the playbook from its beginning.", code="change_closed"
    )


def _answered(item: str, proof: str = "") -> dict[str, Any]:
    """What each result says of the item that it answers."""
    return {"answers": item, "proof": proof}
