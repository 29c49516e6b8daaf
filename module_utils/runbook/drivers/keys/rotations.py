"""Rotates the keys of one application, from the phase that each has reached.

Each step looks before it acts, and writes down what it did before the next one begins (``rules/keys/rotation.py``).
So a run that was killed after any call is gone on with by the next one. The value of a key is in this process only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.error_logs import Rule, Span
from ansible.module_utils.runbook.rules.deploy.deployments import READY
from ansible.module_utils.runbook.rules.keys.rotation import (
    BEGUN,
    CREATED,
    DEPLOYED,
    GOING_BACK,
    GONE_BACK,
    PROVEN,
    RETIRED,
    WRITTEN,
    Rotation,
    State,
)
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.change.documents import Documents
    from ansible.module_utils.runbook.drivers.change.error_logs import Source
    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
    from ansible.module_utils.runbook.drivers.keys.provider import Known, Made, Provider
    from ansible.module_utils.runbook.rules.deploy.deployments import Deployment
    from ansible.module_utils.runbook.rules.keys.definition import Key

#: How long going back may take. It does not end with the run's own deadline: a half is worse than either.
_BACK_S = 300.0


class Store:
    """The rotations, as the state store has them."""

    def __init__(self, documents: Documents, project_id: str, keys: Sequence[Key]) -> None:
        """Read those of all keys.

        :param project_id: the application's project at Vercel
        :raises RunbookError: one cannot be read, so that nobody knows how far it is
        """
        self._documents, self._project_id = documents, project_id
        self._found: dict[str, Rotation] = {}
        #: By the store's clock, which all runs share.
        self.now = datetime.now(UTC)
        for key in keys:
            reading = documents.read(Rotation.document_name(project_id, key.name))
            self.now = reading.now
            if reading.document is not None:
                self._found[key.name] = Rotation.of(reading.document)

    def of(self, key: Key) -> Rotation | None:
        """The last rotation of a key."""
        return self._found.get(key.name)

    @property
    def all(self) -> dict[str, Rotation]:
        """Those that there are, by the keys' names."""
        return dict(self._found)

    def note(self, rotation: Rotation) -> Rotation:
        """Write down how far a rotation is.

        :raises RunbookError: somebody else wrote meanwhile, or whether it was written is unknown
        """
        known = self._found.get(rotation.name)

        def act(found: Any) -> Mapping[str, Any]:
            last = Rotation.of(found.document) if found.document else None
            if last not in (known, rotation):
                raise RunbookError(
                    f"{rotation.name}: another run rotates it too, and has it {last.phase if last else 'removed'} by "
                    "now; look who does, and run this again.",
                    code="state_conflict",
                )
            return rotation.body()

        self._documents.update(Rotation.document_name(self._project_id, rotation.name), act)
        self._found[rotation.name] = rotation
        return rotation


@dataclass(frozen=True)
class Watch:
    """How it is seen that the deployment works with the new keys."""

    #: The application's page that has the fingerprints of its variables.
    page: ApiClient
    #: Where errors are counted; None where the inventory decided to count none.
    source: Source | None
    rule: Rule
    #: How far the count of before looks back.
    span_s: int
    #: How long the page may take to show the new deployment.
    page_s: float = 300.0


class Application:
    """The application that the keys are deployed to.

    :param tell: is told what is waited for, and the seconds so far
    :param poll_s: seconds between two looks
    """

    def __init__(
        self, vercel: Vercel, store: Store, providers: Mapping[str, Provider], clock: Clock,
        tell: Callable[[str, float], None], poll_s: float = 5.0,
    ) -> None:  # fmt: skip
        self._vercel, self._store, self._providers = vercel, store, providers
        self._clock, self._tell, self._poll_s = clock, tell, poll_s
        self._known: dict[str, Known] = {}
        self._hold: Callable[[str], None] = lambda _deployment_id: None
        #: Deployments that a rotation of ours went back from.
        self._left: set[str] = set()

    def provider(self, key: Key) -> Provider:
        """Who gives keys of this kind."""
        return self._providers[key.kind]

    # What is, and what would be done ----------------------------------------------------------------------------------

    def state(self, key: Key) -> State:
        """How it stands with a key.

        :raises RunbookError: its service does not say, or the inventory does not say which key is in use
        """
        rotation = self._store.of(key)
        since = rotation.in_use_since if rotation else self._current(key).created_at
        return State(key, rotation, since, self._store.now)

    def _current(self, key: Key) -> Known:
        if key.name not in self._known:
            self._known[key.name] = self.provider(key).current(key)
        return self._known[key.name]

    def check(self, keys: Sequence[Key]) -> None:
        """See that the variables of keys can be written.

        :raises RunbookError: they cannot; nothing was changed
        """
        variables = self._vercel.env() if keys else []
        for key in keys:
            key.check_variables(variables)

    def _live(self) -> Deployment:
        """The deployment that users reach.

        :raises RunbookError: there is none
        """
        live_id = self._vercel.project().live_id
        if not live_id:
            raise RunbookError("The project has no production deployment, so no key is in use; deploy it first.")
        return self._vercel.deployment(live_id)

    # Rotating ---------------------------------------------------------------------------------------------------------

    def rotate(
        self, keys: Sequence[Key], watch: Watch, grace_days: int, hold: Callable[[str], None]
    ) -> list[Check]:  # fmt: skip
        """Take the keys to ``proven``, or back.

        :param hold: notes the deployment while which automatic domains are to be off; empty once they are
        :raises RunbookError: a step was not done, or it went back; run again, it goes on from there
        """
        self._finish_going_back(keys)
        self._hold = hold
        self._left = {each.deployment for each in self._store.all.values() if each.phase == GONE_BACK}
        for key in keys:
            self._write(key)
        self._deploy([key for key in keys if self._at(key).phase == WRITTEN])
        return self._prove([key for key in keys if self._at(key).phase == DEPLOYED], watch, grace_days)

    def _at(self, key: Key) -> Rotation:
        found = self._store.of(key)
        if found is None:
            raise AssertionError(key.name)
        return found

    def _write(self, key: Key) -> None:
        """Let the variables of a key hold a new one."""
        if self._begin(key).phase not in (BEGUN, CREATED):
            return
        rotation = self._at(key)
        is_written = rotation.phase == CREATED and key.held(rotation.label, self._vercel.env()) is not None
        if not is_written:
            # What a killed run made is found, or makes way.
            made = self.provider(key).make(key, rotation)
            self._note(rotation, CREATED, new=made.id)
            self._set(key, made, rotation.label)
        self._note_written(key)

    def _begin(self, key: Key) -> Rotation:
        """The rotation of a key that is on its way, or a new one."""
        rotation, now, live = self._store.of(key), self._store.now, self._live()
        if rotation is None:
            known = self._current(key)
            return self._store.note(Rotation.begun(key, known.id, known.created_at, live.id, now))
        if rotation.phase == GONE_BACK:
            if self._holds_new(key, rotation, live):
                # Somebody looked, and let the new one go live after all.
                return self._note(rotation, DEPLOYED, deployment=live.id)
            self.provider(key).discard(key, rotation)
        if rotation.phase in (GONE_BACK, RETIRED):
            return self._store.note(rotation.next(key, live.id, now))
        return rotation

    def _holds_new(self, key: Key, rotation: Rotation, live: Deployment) -> bool:
        """Whether a deployment was built when the variables held the new key of a rotation that was gone back from."""
        if live.created_at < datetime.fromisoformat(rotation.at[WRITTEN]):
            return False
        is_put_back = key.held(rotation.label, self._vercel.env()) is None
        return not is_put_back or live.created_at < datetime.fromisoformat(rotation.at[GONE_BACK])

    def _set(self, key: Key, made: Made, label: str) -> None:
        self._vercel.set_env(key.settings(made.parts, label))

    def _note_written(self, key: Key) -> None:
        """Read back what was written. It counts from the moment that Vercel's own clock gives."""
        rotation, variables = self._at(key), self._vercel.env()
        if key.held(rotation.label, variables) is None:
            raise RunbookError(
                f"{key.name}: Vercel took the variables {some(key.env_names)}, and does not show that they hold the "
                "new key; run this again.",
                status=Status.UNKNOWN,
            )
        moments = [each.updated_at for each in variables if each.name in key.env_names and each.updated_at]
        self._note(rotation, WRITTEN, now=max(moments, default=None))

    def _note(self, rotation: Rotation, phase: str, now: datetime | None = None, **changes: Any) -> Rotation:
        return self._store.note(rotation.to(phase, now or datetime.now(UTC), **changes))

    # Deploying --------------------------------------------------------------------------------------------------------

    def _deploy(self, keys: Sequence[Key]) -> None:
        """Let a deployment go live that was built with the new keys; one that is live already does."""
        if not keys:
            return
        written = max(datetime.fromisoformat(self._at(key).at[WRITTEN]) for key in keys)
        live = self._live()
        if live.created_at < written:
            for key in keys:
                # Not in its phase: it is where to go back to, whatever comes of the redeployment.
                self._store.note(replace(self._at(key), deployment_before=live.id))
            live = self._redeploy(live, [self._at(key).label for key in keys], written)
        for key in keys:
            self._note(self._at(key), DEPLOYED, deployment=live.id)

    def _redeploy(self, live: Deployment, labels: Sequence[str], written: datetime) -> Deployment:
        named = hashlib.sha256("\n".join(sorted(labels)).encode()).hexdigest()[:16]
        made = self._vercel.redeploy(live, f"keys-{named}").found
        if made is None:
            raise AssertionError(named)
        built = self._vercel.wait_ready(
            made.id, timeout_s=self._clock.left_s(), poll_s=self._poll_s,
            tell=lambda state, waited: self._tell(f"build is {state}", waited),
        )  # fmt: skip
        project = self._vercel.project()
        if project.live_id != built.id and project.auto_assigns is False:
            # After a rollback nothing that is built goes live by itself. To promote it lets pushes go live again: that
            # is right after a rollback of our own, and not where a person rolled back from a commit that is bad.
            asked = project.alias_request
            is_others = asked is None or asked.from_id not in self._left
            if is_others:
                self._hold(built.id)
            self._move(built.id, lambda: self._vercel.promote(built.id))
            if is_others:
                self._vercel.follow_pushes(on=False)
                self._hold("")
        while (found := self._live()).created_at < written or found.state != READY:
            if self._clock.is_over():
                raise RunbookError(
                    f"Deployment {built.id} is built, and the domains lead to {found.id} still; look at the project's "
                    "domains, and run this again.",
                    status=Status.UNKNOWN,
                )
            self._tell("domains", 0)
            self._clock.sleep(self._poll_s)
        return found

    def _move(self, deployment_id: str, ask: Callable[[], None]) -> None:
        """Ask once for the domains to lead elsewhere, and see that they do."""
        before = self._vercel.project().alias_request
        try:
            ask()
        except ApiError as error:
            if not error.uncertain:
                raise
        moved = self._vercel.wait_moved(
            deployment_id, before, timeout_s=_BACK_S, poll_s=self._poll_s,
            tell=lambda state, waited: self._tell(f"domains {state}", waited),
        )  # fmt: skip
        if moved.live_id != deployment_id:
            raise RunbookError(
                f"Vercel says that the domains were moved to {deployment_id}, and shows them on {moved.live_id}; look "
                "at the project's dashboard, and run this again.",
                status=Status.UNKNOWN,
            )

    # Proving ----------------------------------------------------------------------------------------------------------

    def _prove(self, keys: Sequence[Key], watch: Watch, grace_days: int) -> list[Check]:
        """See that the live deployment uses the new keys, and that no more errors came than before."""
        if not keys:
            return []
        checks = [self._fingerprints(keys, watch)]
        if checks[0].status is Status.OK:
            checks.append(self._errors(keys, watch))
        why = " ".join(check.msg for check in checks if check.status is Status.BREACH)
        if why:
            self._go_back(keys, why)
        if all(check.status is Status.OK for check in checks):
            for key in keys:
                self._store.note(self._at(key).proven(datetime.now(UTC), grace_days))
        return checks

    def _fingerprints(self, keys: Sequence[Key], watch: Watch) -> Check:
        """Whether the application says that it has the new keys."""
        variables, wanted = self._vercel.env(), dict[str, str]()
        for key in keys:
            held = key.held(self._at(key).label, variables)
            if held is None:
                raise RunbookError(
                    f"{key.name}: somebody wrote to {some(key.env_names)} since, so nothing is proven; run this again "
                    "when they hold what they are to hold.",
                    status=Status.UNKNOWN,
                )
            wanted |= {name: mark for name, mark in held.items() if mark}
        began = self._clock.left_s()
        while True:
            wrong, said = self._missing(watch.page, wanted)
            if not wrong:
                names = some(sorted(wanted))
                return Check.ok("fingerprints", f"The live deployment has the new {names}.")
            if self._clock.is_over() or began - self._clock.left_s() > watch.page_s:
                return Check.breach("fingerprints", f"The live deployment does not show the new {some(wrong)}; {said}.")
            self._tell("fingerprints", began - self._clock.left_s())
            self._clock.sleep(self._poll_s)

    @staticmethod
    def _missing(page: ApiClient, wanted: Mapping[str, str]) -> tuple[list[str], str]:
        """The variables of which the page does not show the fingerprint, and what it shows."""
        try:
            found = page.get("")
        except RunbookError as error:
            return sorted(wanted), error.message.rstrip(".")
        shown = found if isinstance(found, dict) else {}
        wrong = sorted(name for name, mark in wanted.items() if shown.get(name) != mark)
        unknown = [name for name in wrong if name not in shown]
        return wrong, f"its page has no {some(unknown)}" if unknown else "its page has other fingerprints"

    def _errors(self, keys: Sequence[Key], watch: Watch) -> Check:
        """Errors since the deployment went live, compared with the time before the keys were written."""
        if watch.source is None:
            return Check.ok("errors", "The inventory decided to count no errors.")
        began = min(datetime.fromisoformat(self._at(key).at[WRITTEN]) for key in keys)
        since = max(datetime.fromisoformat(self._at(key).at[DEPLOYED]) for key in keys)
        while (passed := (datetime.now(UTC) - since).total_seconds()) < watch.rule.min_span_s:
            if self._clock.is_over():
                return Check.unknown(
                    "errors",
                    f"{passed:.0f} s have passed since the deployment went live, and {watch.rule.min_span_s} s are "
                    "needed; run this again.",
                )
            self._tell("errors", passed)
            self._clock.sleep(min(self._poll_s, watch.rule.min_span_s - passed))
        try:
            before = watch.source.count(Span(began - timedelta(seconds=watch.span_s), began))
            after = watch.source.count(Span(since, datetime.now(UTC)))
        except RunbookError as error:
            return Check.unknown("errors", error.message)
        judged = watch.rule.judge(before, after)
        return replace(judged, name="errors", msg=judged.msg.partition(" Look at the logs")[0])

    # Going back -------------------------------------------------------------------------------------------------------

    def _finish_going_back(self, keys: Sequence[Key]) -> None:
        left = [key for key in keys if (found := self._store.of(key)) and found.phase == GOING_BACK]
        if left:
            self._go_back(left, "A run that went back was ended before it was through.")

    def _go_back(self, keys: Sequence[Key], why: str) -> None:
        """Let the domains lead to the deployment with the old keys, and the variables hold them where they can be read.

        :raises RunbookError: always; how far it came
        """
        before = {self._at(key).deployment_before for key in keys}
        # The oldest has the old keys of all.
        target = min((self._vercel.deployment(each) for each in before), key=lambda each: each.created_at)
        dead = [each.name for each in self._store.all.values() if each.is_dead(target)]
        if dead:
            raise RunbookError(
                f"{why} The deployment of before, {target.id}, has the retired key of {some(dead)} in it, so nothing "
                "went back; both keys of this rotation are valid. Mend what is wrong, and run this again."
            )
        for key in keys:
            if self._at(key).phase != GOING_BACK:
                self._note(self._at(key), GOING_BACK)
        if self._vercel.project().live_id != target.id:
            self._move(target.id, lambda: self._vercel.rollback(target.id, "The new keys did not prove themselves"))
        follow_ups = ["New deployments do not go live by themselves until one is promoted."]
        for key in keys:
            rotation = self._at(key)
            old = self.provider(key).reveal(key, rotation.old) if rotation.old else None
            if old is None:
                follow_ups.append(
                    f"{some(key.env_names)} hold the new key of {key.name} still, which is valid; nobody can read the "
                    "old one."
                )
            else:
                self._set(key, old, rotation.old)
            self._note(rotation, GONE_BACK)
        raise RunbookError(
            f"{why} Went back: the domains lead to {target.id}, with the old keys of "
            f"{some([key.name for key in keys])}, which are valid. {' '.join(follow_ups)} Find out why, then run this "
            "again.",
            changed=True,
            follow_ups=follow_ups,
        )

    # Retiring ---------------------------------------------------------------------------------------------------------

    def unretired(self, keys: Sequence[Key]) -> tuple[Key, ...]:
        """The keys whose days of grace are over."""
        return tuple(key for key in keys if (each := self._store.of(key)) and each.may_be_retired(self._store.now))

    def may_be_retired(self, key: Key) -> Check:
        """Whether nobody needs the old key of a rotation any more; what was seen of its use is noted."""
        rotation = self._at(key)
        if not rotation.old:
            return Check.ok("use", f"{key.name}: there was no key before this one.", key.name)
        live = self._live()
        if live.created_at < datetime.fromisoformat(rotation.at[WRITTEN]):
            return Check.breach(
                "use",
                f"{key.name}: the live deployment {live.id} was built before the new key was there, so it has the old "
                "one in it; deploy again, then run this again.",
                key.name,
            )
        if key.held(rotation.label, self._vercel.env()) is None:
            return Check.breach(
                "use",
                f"{key.name}: somebody wrote to {some(key.env_names)} since it was rotated; see that they hold the new "
                "key, by rotating it once more.",
                key.name,
            )
        use = self.provider(key).use(key, rotation, self._store.now)
        if use.sample and use.sample != rotation.sample:
            self._store.note(replace(rotation, sample=use.sample))
        return use.judge(key.name, self._store.now)

    def look(self, keys: Sequence[Key]) -> None:
        """Note what can be seen of the use of old keys whose grace is not over yet."""
        for key in keys:
            rotation = self._store.of(key)
            if rotation is None or rotation.phase != PROVEN or not rotation.old:
                continue
            use = self.provider(key).use(key, rotation, self._store.now)
            if use.sample and use.sample != rotation.sample:
                self._store.note(replace(rotation, sample=use.sample))

    def retire(self, key: Key) -> None:
        """End the old key.

        :raises RunbookError: refused, or whether it ended is unknown; run again
        """
        rotation = self._at(key)
        if rotation.old:
            self.provider(key).retire(key, rotation)
        self._store.note(rotation.retired(datetime.now(UTC)))
