"""What is wrong with a database, an application or its monitoring: evidence, the fix (of a database as SQL), its cost.

A finding changes nothing. Its statements are for a person to read, and one of them may be applied by its id. So the id
is the same in every run as long as the defect is the same, and can be typed on a command line without quotes.

>>> finding_id("unused_index", "public", "messages", "messages_old_idx")
'unused_index:public.messages.messages_old_idx'
>>> finding_id("slow_query", "-123")
'slow_query:-123'
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Severity = Literal["critical", "warning", "info"]

#: From the worst to the least.
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
#: Of one kind; a schema with a thousand equal defects has one cause.
MAX_OF_A_KIND = 50

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Estimate:
    """What the planner expects of the query that the fix is for, in its own units of cost."""

    cost_before: float
    cost_after: float


@dataclass(frozen=True)
class Finding:
    """One defect."""

    #: Stable between runs; of letters, digits and ``_ - . :`` only.
    id: str
    kind: str
    severity: Severity
    #: Name of what it is about: a table, an index, a session, a setting.
    object: str
    #: Figures, with their units in their names.
    evidence: Mapping[str, Any]
    #: One sentence with the figures.
    msg: str
    #: The statements that fix it, in their order, with quoted identifiers; empty where no statement does.
    ddl: Sequence[str] = ()
    #: What the statements cost or may break, or why there are none; one sentence.
    risk: str = ""
    #: Checked with hypothetical indexes; None where nobody could.
    estimated: Estimate | None = None

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return asdict(self) | {"ddl": list(self.ddl), "evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Unknown:
    """What could not be judged."""

    #: The kind of finding that may be there all the same.
    kind: str
    #: One sentence: why, and what would make it known.
    msg: str
    #: Whether rights, an extension or a setting would; False where only time, or another server, can tell.
    fixable: bool = True

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return asdict(self)


def finding_id(kind: str, *parts: str) -> str:
    """``kind:part.part``; a part that holds anything else than letters, digits, ``_`` and ``-`` is abridged.

    The abridged name is followed by eight digits of its SHA-256, so that two names stay two.

    >>> finding_id("unused_index", "public", 'say "hi"')
    'unused_index:public.say_hi_-f65be999'
    """
    safe = []
    for part in parts:
        plain = _UNSAFE.sub("_", part)
        digest = hashlib.sha256(part.encode()).hexdigest()[:8]
        safe.append(part if plain == part else f"{plain}-{digest}")
    return f"{kind}:{'.'.join(safe)}"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; equals by kind and id."""
    return sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), found.kind, found.id))


def bounded(findings: Sequence[Finding]) -> tuple[list[Finding], dict[str, int]]:
    """At most :data:`MAX_OF_A_KIND` findings of each kind, and how many of which kind were left out."""
    seen: Counter[str] = Counter()
    kept = []
    for found in findings:
        seen[found.kind] += 1
        if seen[found.kind] <= MAX_OF_A_KIND:
            kept.append(found)
    return kept, {kind: count - MAX_OF_A_KIND for kind, count in seen.items() if count > MAX_OF_A_KIND}


def status(findings: Iterable[Finding], unknown: Iterable[Unknown]) -> Status:
    """``breach`` with a critical finding, ``unknown`` where something could not be judged that can be, else ``ok``."""
    return Status.of(
        breach=any(found.severity == "critical" for found in findings), unknown=any(one.fixable for one in unknown)
    )


def message(findings: Sequence[Finding], unknown: Sequence[Unknown], *, of: str) -> str:
    """One sentence with the figures.

    :param of: what was looked at, with its figures
    """
    counts = Counter(found.severity for found in findings)
    text = ", ".join(f"{counts[severity]:,} {severity}" for severity in SEVERITIES if counts[severity])
    text = f"{count(len(findings), 'finding')} ({text})" if findings else "No findings"
    text += f" in {of}"
    if findings:
        text += f": {some([found.id for found in findings])}"
    if unknown:
        text += f"; not judged: {some(sorted({one.kind for one in unknown}), most=10)}"
    return text + "."


def results(findings: Iterable[Finding], unknown: Sequence[Unknown], *, of: str) -> dict[str, Any]:
    """What every module that finds defects returns: ``msg status findings findings_left_out unknown``."""
    kept, left_out = bounded(ordered(findings))
    return {
        "status": status(kept, unknown),
        "msg": message(kept, unknown, of=of),
        "findings": [found.result() for found in kept],
        "findings_left_out": left_out,
        "unknown": [one.result() for one in unknown],
    }
