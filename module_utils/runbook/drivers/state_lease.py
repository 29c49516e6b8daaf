"""The lease of work that has no database, kept in the state store; ``rules/state.py`` says who gets it.

A proof takes it for its target, and ``ansible-playbook`` holds it: the callback renews it while the run lives, and
gives it back at the end. Where the run dies, the lease ends by itself.
"""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, process, state_store
from ansible.module_utils.runbook.drivers.state_store import ConflictError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.state import LEASE_TTL_S, Document, claim, lease_name, lease_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading, StateStore
    from ansible.module_utils.runbook.rules.preflight import Checks
    from ansible.module_utils.runbook.rules.run import Approval, Run
    from ansible.module_utils.runbook.rules.target import Target

#: Seconds between two renewals.
RENEW_S = LEASE_TTL_S / 3
#: What a proof says that took none.
_NO_LEASE: dict[str, Any] = {"name": None, "decision": "none", "expires_at": None}
#: How often a lease is claimed again that somebody else wrote to meanwhile.
_ATTEMPTS = 5


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every proof without a database: ``doc_fragments/runbook_state.py`` and ``runbook_lease.py``."""
    return state_store.argument_spec() | lease_wait.argument_spec()


def store_of(params: Mapping[str, Any], environment: str) -> StateStore | None:
    """The state store that the options name; None where they name none.

    :raises RunbookError: they name two, or one that cannot be used
    """
    return state_store.from_settings(
        {name: value for name, value in params.items() if name.startswith("state_")}, environment
    )


def admit(
    params: Mapping[str, Any],
    run: Run,
    target: Target,
    approval: Approval,
    checks: Checks,
    tell: Callable[[str, float, float | None, str], None],
) -> dict[str, Any]:
    """Let this run work on a target that proved itself: take its lease, then permit the run's modules to write there.

    :param params: options of the proof, as :func:`argument_spec` has them
    :param checks: the proof's own; ``lease`` becomes one of them
    :param tell: ``Progress.update``
    :returns: of the proof's result, ``target`` and ``lease``
    :raises RunbookError: another run holds it, or the store does not say
    """
    held = _NO_LEASE
    if params["take_lease"]:
        with checks.named("lease") as check:
            held = lease_wait.wait_for(lambda: take(params, run, target, approval), params, tell)
            if held["name"] is None:
                check["msg"] = "No state store is named, so nothing keeps another run away."
            else:
                verb = "may take" if run.check_mode else "holds"
                check["msg"] = f"This run {verb} {held['name']} in the state store."
    permits.grant(run, target)
    return {"target": target.proven(approval.environment), "lease": held}


def take(params: Mapping[str, Any], run: Run, target: Target, approval: Approval) -> dict[str, Any]:
    """Take the lease of ``target``, or in check mode say what taking it would do.

    :returns: ``name``, ``decision`` and ``expires_at``; the decision is ``none`` where no store is named
    :raises RunbookError: another run holds it (code ``lease_held``), or the store does not say
    """
    store = store_of(params, approval.environment)
    return _NO_LEASE if store is None else _take(store, run, lease_name(target), approval.playbook)


def _take(store: StateStore, run: Run, name: str, purpose: str) -> dict[str, Any]:
    for attempt in range(1, _ATTEMPTS + 1):
        found = store.read(name)
        current, decision = found.document, "acquire"
        if current is not None:
            decision = "renew" if current.run_id == run.id else "take_over"
        wanted = _wanted(found, run, name, purpose)
        if run.check_mode:
            return {"name": name, "decision": decision, "expires_at": None}
        try:
            _write(store, wanted, found)
        except ConflictError:
            # Somebody else decided the same this moment, and has it now.
            if attempt == _ATTEMPTS:
                raise
        else:
            return {"name": name, "decision": decision, "expires_at": wanted.body["expires_at"]}
    raise AssertionError


def _wanted(found: Reading, run: Run, name: str, purpose: str) -> Document:
    holder = None if found.document is None else process.parse(lease_of(found.document).machine)
    body = claim(
        found.document, name=name, run_id=str(run.id), machine=run.process or "", purpose=purpose,
        holder=holder.life() if holder else "unknown", now=found.now,
    )  # fmt: skip
    return Document(
        name, body, str(run.id), run.controller or "unknown", datetime.now(UTC).isoformat(), secrets.token_hex(16)
    )


def _write(store: StateStore, wanted: Document, found: Reading) -> None:
    if found.document is None:
        store.create(wanted)
    else:
        store.replace(wanted, found.version)


def renew(store: StateStore, run: Run, name: str) -> None:
    """Let the lease that this run holds last for its whole time again.

    :raises RunbookError: another run has it by now (code ``state_lost``), or the store does not say
    """
    found = store.read(name)
    if found.document is None or found.document.run_id != run.id:
        whose = "nobody holds it" if found.document is None else f"{found.document.writer} holds it"
        raise RunbookError(f"{name}: this run lost its lease, {whose} now; start it again.", code="state_lost")
    _write(store, _wanted(found, run, name, lease_of(found.document).purpose), found)


def release(store: StateStore, run_id: str, name: str) -> bool:
    """Give the lease back; False where this run did not hold it (any more).

    :raises RunbookError: the store does not say
    """
    found = store.read(name)
    if found.document is None or found.document.run_id != run_id:
        return False
    store.delete(name, found.version)
    return True


def give_back(store: StateStore, run_id: str, name: str) -> str:
    """:func:`release` at the end of a run: empty, or why the lease is there still."""
    try:
        release(store, run_id, name)
    except RunbookError as error:
        return f"{name} was not given back, and ends by itself within 15 minutes. {error.message}"
    return ""


class Keeper:
    """Renews leases in a thread of its own until :meth:`stop`; it never raises, and says what went wrong."""

    def __init__(self, run: Run, complain: Callable[[str], None], every_s: float = RENEW_S) -> None:
        self._run = run
        self._complain = complain
        self._every_s = every_s
        self._held: dict[str, tuple[StateStore, Target, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="leases", daemon=True)

    def hold(self, name: str, store: StateStore, target: Target) -> None:
        """Renew this one too; it was taken this moment."""
        self._held[name] = (store, target, time.monotonic())
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Renew no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(state_store.ACT_S)

    def _work(self) -> None:
        while not self._over.wait(self._every_s):
            for name, (store, target, renewed) in list(self._held.items()):
                try:
                    renew(store, self._run, name)
                except RunbookError as error:
                    self._complain(error.message)
                    if error.code == "state_lost" or time.monotonic() - renewed > LEASE_TTL_S:
                        # Another run may work there by now: no module of this one begins any more.
                        permits.revoke(self._run, target)
                        self._held.pop(name, None)
                else:
                    self._held[name] = (store, target, time.monotonic())
