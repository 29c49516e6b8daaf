"""How far the rotation of a key is, and what may be done next.

A rotation is a document of the state store. It says what was decided before anything is made, so that whoever comes
after a kill looks for what may be there, and makes nothing a second time:

``begun``
    The new key has its name; none was made yet, or one whose value nobody knows.
``created``
    It is there, and the application's variables may hold it in part.
``written``
    All variables hold it. What is built from now on uses it, and what runs still uses the old one.
``deployed``
    A deployment with it is live; the one of before is still there to go back to.
``proven``
    That deployment was seen to use it, and no more errors came than before. The old key is valid for the days of grace.
``retired``
    The old key is dead, and so is every deployment that was built with it.
``going_back``, ``gone_back``
    The rule said so: the domains lead to the deployment of before, with the old key in it.

The old key is touched by nothing but the last step of a rotation that was proven. So at each point the key that the
live deployment has in it is valid.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count, to_second

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ansible.module_utils.runbook.rules.deploy.deployments import Deployment
    from ansible.module_utils.runbook.rules.keys.definition import Key
    from ansible.module_utils.runbook.rules.state import Document

#: The folder of the state store that holds them.
FOLDER = "keys/"
BEGUN, CREATED, WRITTEN, DEPLOYED, PROVEN, RETIRED, GOING_BACK, GONE_BACK = PHASES = (
    "begun", "created", "written", "deployed", "proven", "retired", "going_back", "gone_back",
)  # fmt: skip
#: In these a new key is on its way, and the next run goes on with it.
UNFINISHED = frozenset({BEGUN, CREATED, WRITTEN, DEPLOYED, GOING_BACK})
#: An old key that was used within this time is not retired.
UNUSED_H = 24
#: So many deployments that were gone back from are remembered; Vercel offers none that is so old.
_MOST_DEAD = 20
#: A rotation that ended within this time may be the one that is asked for again.
_JUST_NOW = timedelta(hours=1)
#: What is left for longer than this is a finding.
_LATE = timedelta(days=1)
#: So long before it is due, a key's report says so.
NEAR_DAYS = 14


@dataclass(frozen=True)
class Rotation:
    """The last rotation of one key."""

    name: str
    kind: str
    env_names: tuple[str, ...]
    phase: str
    #: What the new key is called, to its service and in the comments of the variables.
    label: str
    #: What its service knows the old key by; empty where the application had none.
    old: str
    #: When the old one was made; empty where nobody can say.
    old_created_at: str = ""
    #: The same of the new one.
    new: str = ""
    #: When each phase began, in ISO 8601.
    at: Mapping[str, str] = field(default_factory=dict)
    #: The live deployment when the redeployment was asked for, and the one with the new key.
    deployment_before: str = ""
    deployment: str = ""
    #: When the old key may be retired.
    retire_after: str = ""
    #: What was built before this moment has a retired key in it, of this rotation or of one before; empty for none.
    dead: str = ""
    #: Deployments whose new key was discarded after the domains had gone back from them.
    dead_deployments: tuple[str, ...] = ()
    #: What was seen of the old key's use, where its service counts and does not date it.
    sample: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def document_name(project_id: str, name: str) -> str:
        """Under which name the document of a key lies. Applications of one inventory may call their keys the same.

        >>> Rotation.document_name("prj_1a2b", "server")
        'keys/prj_1a2b-server'
        """
        return check_name(f"{FOLDER}{project_id}-{name}")

    @classmethod
    def begun(cls, key: Key, old: str, old_created_at: datetime | None, live_id: str, now: datetime) -> Rotation:
        """A rotation at its beginning.

        The new key's name is one that no earlier one can have had, and no other application's of this moment.

        :param old: what its service knows the key in use by
        :param live_id: the live deployment
        """
        return cls(
            name=key.name, kind=key.kind, env_names=key.env_names, phase=BEGUN,
            label=f"{key.name}_{now.astimezone(UTC):%Y%m%dt%H%M%S}_{sha256(live_id.encode()).hexdigest()[:6]}", old=old,
            old_created_at=old_created_at.isoformat() if old_created_at else "", at={BEGUN: now.isoformat()},
            deployment_before=live_id,
        )  # fmt: skip

    @classmethod
    def of(cls, document: Document) -> Rotation:
        """The rotation that a document is.

        :raises RunbookError: it is none; how far it is, is unknown
        """
        found = document.body
        try:
            made = cls(
                **{name: str(found[name]) for name in ("name", "kind", "phase", "label", "old")},
                **{
                    name: str(found.get(name, ""))
                    for name in ("old_created_at", "new", "deployment_before", "deployment", "retire_after", "dead")
                },
                dead_deployments=tuple(map(str, found.get("dead_deployments", ()))),
                env_names=tuple(map(str, found["env_names"])),
                at={str(phase): str(moment) for phase, moment in found["at"].items()},
                sample=dict(found.get("sample") or {}),
            )
            for moment in (*made.at.values(), made.retire_after or None, made.old_created_at or None,
                           made.dead or None):  # fmt: skip
                if moment is not None:
                    datetime.fromisoformat(moment)
            if made.phase not in PHASES:
                raise ValueError(made.phase)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RunbookError(
                f"State store: {document.name} is no rotation of this project; restore or remove it. How far it is, is "
                "unknown.",
                code="state_damaged",
                status=Status.UNKNOWN,
            ) from None
        return made

    def body(self) -> dict[str, Any]:
        """What its document holds; ``dead_before`` and ``dead_deployments`` tell which deployments are dead."""
        return asdict(self) | {
            "env_names": list(self.env_names),
            "dead_deployments": list(self.dead_deployments),
            "retired_at": self.at.get(RETIRED) if self.old else None,
            "dead_before": self.dead or None,
        }

    def is_dead(self, deployment: Deployment) -> bool:
        """Whether a deployment has a key in it that lets nobody in any more."""
        is_old = bool(self.dead) and deployment.created_at < datetime.fromisoformat(self.dead)
        return is_old or deployment.id in self.dead_deployments

    @property
    def in_use(self) -> str:
        """What its service knows the key by that the application is to use."""
        return self.new if self.phase in (PROVEN, RETIRED) else self.old

    @property
    def in_use_since(self) -> datetime | None:
        """When that key was made."""
        said = self.at.get(CREATED, "") if self.phase in (PROVEN, RETIRED) else self.old_created_at
        return datetime.fromisoformat(said) if said else None

    def to(self, phase: str, now: datetime, **changes: Any) -> Rotation:
        """The same rotation, a phase further."""
        return replace(self, phase=phase, at={**self.at, phase: now.isoformat()}, **changes)

    def next(self, key: Key, live_id: str, now: datetime) -> Rotation:
        """The rotation that follows on this one, which is over."""
        following = self.begun(key, self.in_use, self.in_use_since, live_id, now)
        failed = (self.deployment,) if self.phase == GONE_BACK and self.deployment else ()
        dead = (*self.dead_deployments, *failed)[-_MOST_DEAD:]
        return replace(following, dead=self.dead, dead_deployments=dead)

    def retired(self, now: datetime) -> Rotation:
        """The same rotation, when the old key is dead, if there was one."""
        return self.to(RETIRED, now, sample={}, **({"dead": self.at[WRITTEN]} if self.old else {}))

    def proven(self, now: datetime, grace_days: int) -> Rotation:
        """The same rotation, when the deployment was seen to use the new key."""
        return self.to(PROVEN, now, retire_after=(now + timedelta(days=grace_days)).isoformat())

    def may_be_retired(self, now: datetime) -> bool:
        """Whether the days of grace are over."""
        return self.phase == PROVEN and now >= datetime.fromisoformat(self.retire_after)


@dataclass(frozen=True)
class Use:
    """What is known of the use of an old key."""

    #: One sentence.
    msg: str
    #: Since when it certainly was not used; None where it was just now, or nobody can say.
    unused_since: datetime | None = None
    #: It was used just now.
    is_used: bool = False
    #: What the next look compares with.
    sample: Mapping[str, Any] = field(default_factory=dict)

    def judge(self, name: str, now: datetime) -> Check:
        """Whether the old key may be retired."""
        if self.unused_since is not None and now - self.unused_since >= timedelta(hours=UNUSED_H):
            return Check.ok("use", self.msg, name)
        if self.is_used or self.unused_since is not None:
            return Check.breach(
                "use",
                f"{name}: {self.msg} It is not retired before it was unused for {UNUSED_H} hours; find who uses it, "
                "and give them the new one.",
                name,
            )
        return Check.unknown("use", f"{name}: {self.msg} So it is not retired.", name)


@dataclass(frozen=True)
class State:
    """How it stands with a key."""

    key: Key
    rotation: Rotation | None
    #: When the key in use was made; None where nobody knows.
    since: datetime | None
    now: datetime

    @property
    def age_days(self) -> int | None:
        """Whole days since it was made; None where nobody knows."""
        return None if self.since is None else max((self.now - self.since).days, 0)

    @property
    def is_due(self) -> bool:
        """Whether it is to be rotated. A key whose age nobody knows is."""
        age = self.age_days
        return age is None or age >= self.key.max_age_days

    @property
    def phase(self) -> str:
        """The phase of its last rotation; empty where there was none."""
        return self.rotation.phase if self.rotation else ""

    def figures(self) -> dict[str, Any]:
        """As a module returns it."""
        is_in_grace = self.rotation is not None and self.rotation.phase == PROVEN
        return {
            "name": self.key.name,
            "kind": self.key.kind,
            "env_names": list(self.key.env_names),
            "created_at": self.since.isoformat() if self.since else "",
            "due_at": (self.since + timedelta(days=self.key.max_age_days)).isoformat() if self.since else "",
            "age_days": self.age_days,
            "max_age_days": self.key.max_age_days,
            "phase": self.phase,
            "deployment": self.rotation.deployment if self.rotation else "",
            "retire_after": self.rotation.retire_after if self.rotation and is_in_grace else "",
        }

    def check(self) -> Check:
        """Whether it is too old, or its rotation did not come to its end."""
        status, said = self._judge()
        return Check("age", status, f"{self.key.name}: {said}", self.key.name)

    def _judge(self) -> tuple[Status, str]:
        again = "run rotate_keys.yml with -e key_rotation_action=create again."
        if self.rotation is not None and self.phase in UNFINISHED:
            said = f"its rotation is {self.phase} since {to_second(self.rotation.at[self.phase])}"
            is_late = self.now - datetime.fromisoformat(self.rotation.at[BEGUN]) > _LATE
            return (Status.BREACH, f"{said}; {again}") if is_late else (Status.OK, f"{said}.")
        if self.rotation is not None and self.phase == GONE_BACK:
            at = to_second(self.rotation.at[GONE_BACK])
            return Status.BREACH, f"its rotation went back to the old key at {at}. Find out why, then {again}"
        if self.rotation is not None and self.phase == PROVEN:
            until = f"valid until {to_second(self.rotation.retire_after)}"
            if self.rotation.old and self.now - datetime.fromisoformat(self.rotation.retire_after) > _LATE:
                return (
                    Status.BREACH,
                    f"its old key was to be {until}; retire it: rotate_keys.yml -e key_rotation_action=retire.",
                )
            return Status.OK, f"rotated; its old key is {until}."
        return self._judge_age()

    def _judge_age(self) -> tuple[Status, str]:
        rotate, most = "rotate it: rotate_keys.yml -e key_rotation_action=create.", self.key.max_age_days
        if self.age_days is None:
            return Status.UNKNOWN, f"nobody knows how old it is; {rotate}"
        if self.is_due:
            return Status.BREACH, f"it is {count(self.age_days, 'day')} old, and {most} is the most; {rotate}"
        left = most - self.age_days
        near = f", due in {count(left, 'day')}" if left <= NEAR_DAYS else ""
        return Status.OK, f"{count(self.age_days, 'day')} old, at most {most}{near}."


def wanted(states: Sequence[State], named: Collection[str]) -> tuple[Key, ...]:
    """The keys that a run rotates: those whose rotation is on its way, and those that are due, or named.

    :param named: what the run was told; empty is all that is due
    :raises RunbookError: it names one that is not listed, or only such as are in their days of grace since before this
        was asked: who rotates a key that somebody saw must not take that for done
    """
    known = {each.key.name for each in states}
    for name in named:
        if name not in known:
            raise RunbookError(f"names: {name!r} is no key of this inventory; take one of {', '.join(sorted(known))}.")
    found = []
    for state in states:
        is_asked = state.key.name in named if named else state.is_due
        # In its days of grace a third one would be made beside the two.
        if state.phase in UNFINISHED or (is_asked and state.phase != PROVEN):
            found.append(state.key)
    for state in states:
        if state.key.name not in named or state.phase != PROVEN or state.rotation is None or found:
            continue
        if state.now - datetime.fromisoformat(state.rotation.at[PROVEN]) > _JUST_NOW:
            raise RunbookError(
                f"names: {state.key.name} was rotated at {to_second(state.rotation.at[PROVEN])}, and its old key is "
                f"valid until {to_second(state.rotation.retire_after)}, so no third one is made before it is retired. "
                "Where somebody saw the new key, replace it by hand, in its service and at Vercel."
            )
    return tuple(found)


def told(states: Sequence[State]) -> str:
    """How it stands with the keys, in a sentence."""
    return " ".join(state.check().msg for state in states) or "No key is listed."
