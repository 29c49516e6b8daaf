"""Quantities whose growth is watched: what the inventory says of each, and what was read of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

#: Sources of a quantity, each with the options that it needs. What needs none of them is ``unit``.
SOURCES: dict[str, tuple[str, ...]] = {
    "database_size": (),
    "table_size": ("table",),
    "connections": (),
    "sql": ("query",),
    "prometheus": ("query",),
    "supabase_requests": (),
    "supabase_function_runs": (),
    "supabase_disk": (),
    "s3": ("bucket",),
}
#: What is read of the database, and of Supabase's API.
OF_DATABASE = frozenset({"database_size", "table_size", "connections", "sql"})
OF_SUPABASE = frozenset({"supabase_requests", "supabase_function_runs", "supabase_disk"})
#: Options that only some sources have.
_OWN = ("table", "query", "bucket", "prefix")
_UNITS = {
    "database_size": "bytes", "table_size": "bytes", "supabase_disk": "bytes", "s3": "bytes",
    "connections": "connections", "supabase_requests": "requests", "supabase_function_runs": "runs",
}  # fmt: skip
_AMOUNTS = frozenset({"supabase_requests", "supabase_function_runs"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Quantity:
    """One quantity, as the inventory says it."""

    name: str
    source: str
    #: ``bytes``, or what is counted, in the plural.
    unit: str
    #: ``level``, ``amount`` (of a day), or ``counter``, which only grows.
    kind: str
    #: What it may be at most; of an amount, in a month. None where the source or the plan says it, or nobody.
    limit: float | None = None
    #: ``table``, ``query``, ``bucket``, ``prefix``, as far as the source has them.
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_amount(self) -> bool:
        """Whether it is done rather than there; then it is told as a month's."""
        return self.kind != "level"

    def text(self, value: float) -> str:
        """A value as people read it.

        >>> Quantity("users", "sql", "users", "level").text(1200), Quantity("d", "s3", "bytes", "level").text(2**30)
        ('1,200 users', '1.0 GiB')
        """
        said = size(value) if self.unit == "bytes" else count(value, self.unit, self.unit)
        return f"{said} a month" if self.is_amount else said


@dataclass(frozen=True)
class Reading:
    """What a source gave: a value for each day that it knows."""

    days: Mapping[date, float]
    #: What the source itself says is the most there can be.
    limit: float | None = None
    #: Where that limit comes from, such as ``max_connections``.
    limit_of: str = ""
    #: Bytes of files that nobody has written to for long, where the source knows.
    cold_bytes: int | None = None


def quantities(given: Sequence[Mapping[str, Any]]) -> list[Quantity]:
    """The quantities of a module's option.

    :raises RunbookError: names what is wrong with which of them, and the fix
    """
    found: list[Quantity] = []
    for each in given:
        where = f"quantities: {each['name']!r}"
        if not _NAME.fullmatch(each["name"]):
            raise RunbookError(f"{where} is no name; write it with small letters, digits and _, a letter first.")
        if each["name"] in {one.name for one in found}:
            raise RunbookError(f"{where} is there twice; give each a name of its own.")
        source = each["source"]
        missing = [option for option in SOURCES[source] if not each.get(option)]
        if missing:
            raise RunbookError(f"{where} has the source {source} and no {missing[0]}; add it.")
        allowed = {*SOURCES[source], *(("prefix",) if source == "s3" else ())}
        options = {option: str(each[option]) for option in _OWN if each.get(option)}
        if wrong := sorted(options.keys() - allowed):
            raise RunbookError(f"{where} has the source {source}, which has no {wrong[0]}; take it out.")
        kind = each.get("kind") or ("amount" if source in _AMOUNTS else "level")
        if kind != ("amount" if source in _AMOUNTS else "level") and source != "prometheus":
            raise RunbookError(
                f"{where} has the kind {kind}, which only a quantity of Prometheus may have; take it out."
            )
        limit = each.get("limit")
        if limit is not None and not limit > 0:
            raise RunbookError(f"{where} has the limit {limit:g}; give a number above 0, or none.")
        unit = each.get("unit") or _UNITS.get(source, "")
        if not unit:
            raise RunbookError(f"{where} has no unit; say bytes, or what is counted, such as users.")
        found.append(Quantity(each["name"], source, unit, kind, limit, options))
    if not found:
        raise RunbookError("quantities: there is none; name at least one.")
    return found
