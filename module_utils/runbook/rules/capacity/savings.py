"""What could be saved, from what other operations found and wrote down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.capacity.outlook import Outlook

#: Indexes that only cost.
_USELESS = frozenset({"unused_index", "duplicate_index", "redundant_index"})
#: Less is not worth a line.
LEAST_BYTES = 64 * 1024**2


def of_indexes(run: str, figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Indexes that ``pg_index_info`` found to be of no use.

    :param run: name of the run that found them
    """
    found = figures.get("findings")
    useless = [each for each in found if each.get("kind") in _USELESS] if isinstance(found, list) else []
    bytes_ = sum(_bytes(each.get("evidence") or {}, "size_bytes") for each in useless)
    if bytes_ >= LEAST_BYTES:
        yield _saving(
            "useless_indexes",
            bytes_,
            f"{count(len(useless), 'index', 'indexes')} that nothing needs "
            f"{'takes' if len(useless) == 1 else 'take'} {size(bytes_)} ({run}).",
            "performance.yml names each and drops it by its id.",
        )


def of_bloat(run: str, figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Bloat that ``pg_bloat_info`` measured."""
    bytes_ = _bytes(figures, "bloat_bytes")
    if bytes_ >= LEAST_BYTES:
        yield _saving(
            "bloat",
            bytes_,
            f"Bloat takes {size(bytes_)} ({run}).",
            "monthly_db.yml gives it back while everybody works.",
        )


def of_files(outlooks: Sequence[Outlook], *, cold_days: int) -> Iterator[Finding]:
    """Files that nobody has written to for long, in the dearest class of storage."""
    for each in outlooks:
        if (each.cold_bytes or 0) >= LEAST_BYTES:
            yield _saving(
                f"cold_files.{each.quantity.name}",
                each.cold_bytes or 0,
                f"{each.quantity.name}: {size(each.cold_bytes)} were last written to more than {cold_days} days ago, "
                "and lie in the class STANDARD.",
                "A lifecycle rule of the bucket moves them to a cheaper class; its access log says who reads them.",
            )


def _saving(what: str, bytes_: int, msg: str, risk: str) -> Finding:
    kind, _, part = what.partition(".")
    parts = ("saving", kind, *([part] if part else []))
    return Finding(finding_id(parts[0], *parts[1:]), "saving", "info", what, {"saved_bytes": bytes_}, msg, (), risk)


def _bytes(figures: Mapping[str, Any], key: str) -> int:
    value = figures.get(key)
    return int(value) if isinstance(value, (int, float)) else 0
