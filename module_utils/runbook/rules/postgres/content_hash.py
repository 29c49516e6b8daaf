"""What a table holds, as two figures that do not depend on the order of its rows.

The figures are the number of rows and the sum of one 64-bit hash a row. A row's hash is taken over the bytes that
PostgreSQL's binary output (``record_send``) gives for the whole row, lengths and nulls included, and not over one
column after the other: PostgreSQL's own hash of a row is a sum over its columns, so a sum of such hashes would not
notice two rows that exchanged the values of one column.

What is hashed is what a dump carries, since that is all that a restore can bring back: the columns by name, without
generated ones, each as the text that its type's output function gives. A value's bytes in the table are no measure:
a NaN has two signs, an array may keep a bitmap of nulls that it has no more, and a type's own cast to ``text`` says
what it likes. For the types of :data:`_EXACT` the binary output says the same as the text, for less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

#: ``text`` is what the type's output function gives, which is what ``COPY`` writes.
Form = Literal["binary", "text"]
Coverage = Literal["all", "sampled", "none"]
#: A change of what goes into a hash needs a new name. Manifests may bear the name of one that is computed no more.
Method = Literal["dumped-hash64-sum", "dumped-md5-sum"]

#: Of a sampled table, one row in so many is hashed; all are counted.
SAMPLE_ONE_IN = 16

#: PostgreSQL's own types of which two values have the same binary output if, and only if, they have the same text.
#: ``numeric`` is one of them, since both tell its scale. Floats, arrays, intervals, ranges, tsquery and all that are
#: composed of others are not, or not surely.
_EXACT = frozenset({
    "bool", "int2", "int4", "int8", "oid", "numeric", "text", "varchar", "bpchar", "name", "char", "json", "bytea",
    "uuid", "date", "time", "timestamp", "timestamptz",
})  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column as the catalogue describes it."""

    name: str
    type_schema: str
    type_name: str

    @property
    def form(self) -> Form:
        """How the column goes into the row's hash."""
        return "binary" if self.type_schema == "pg_catalog" and self.type_name in _EXACT else "text"


@dataclass(frozen=True)
class Table:
    """A table whose rows a logical backup holds."""

    oid: int
    name: QualifiedName
    size_bytes: int
    #: Those that a dump carries, by name: the order in the table is not that of a restored one.
    columns: tuple[Column, ...]
    owner: str = ""
    #: A view that is stored (relkind m) and a partitioned parent hold no rows of their own, so only ``r`` comes here.
    kind: str = "r"

    @property
    def sample_column(self) -> Column | None:
        """The column whose value decides whether a row is in the sample; None: every row is."""
        return next((column for column in self.columns if column.form == "binary"), None)


@dataclass(frozen=True)
class Content:
    """What a table holds: ``digest`` is a decimal number as text, None where it was not computed."""

    rows: int
    digest: str | None


def method(server_version: int) -> Method:
    """How rows are hashed on a server of ``server_version_num``: PostgreSQL 14 brought a hash for any row."""
    return "dumped-hash64-sum" if server_version >= 140000 else "dumped-md5-sum"


Verdict = Literal["equal", "differs", Status.UNKNOWN]


def compare(wanted: Content, found: Content) -> Verdict:
    """Judge one table: a digest that is missing on either side leaves its content unknown, unless rows differ."""
    if wanted.rows != found.rows:
        return "differs"
    if wanted.digest is None or found.digest is None:
        return Status.UNKNOWN
    return "equal" if wanted.digest == found.digest else "differs"


def are_comparable(*, wanted_method: str, wanted_probe: str, found_method: str, found_probe: str) -> bool:
    """Whether digests of two servers may be compared: both give the same figure for the same known values."""
    return wanted_method == found_method and wanted_probe == found_probe


def closed_large_objects(unread: Mapping[str, int], user: str) -> str:
    """What to say of large objects that a user may not read, who may read every table.

    :param unread: how many, by owner
    """
    owners = some(list(unread))
    return (
        f"{count(sum(unread.values()), 'large object')} of {owners} may not be read by user {user!r}, which "
        "pg_read_all_data does not cover; run playbooks/db_roles.yml again, which gives runbook_backup SELECT on them. "
        f"Before PostgreSQL 18 the next one is closed again: where that is often, let {owners} grant it each time."
    )
