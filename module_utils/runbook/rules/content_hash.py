"""What a table holds, as two figures that do not depend on the order of its rows.

The figures are the number of rows and the sum of one 64-bit hash a row. A row's hash is taken over the bytes that
PostgreSQL's binary output (``record_send``) gives for the whole row, lengths and nulls included, and not over one
column after the other: PostgreSQL's own hash of a row is a sum over its columns, so a sum of such hashes would not
notice two rows that exchanged the values of one column.

Binary output is exact (a numeric's trailing zeros, a float's every bit) and cheap. It names types by number where they
are not PostgreSQL's own, and those numbers differ from database to database; such columns go in as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

Form = Literal["binary", "text"]
Coverage = Literal["all", "sampled", "none"]
Method = Literal["record_send-hash64-sum", "record_send-md5-sum"]

#: Of a sampled table, one row in so many is hashed; all are counted.
SAMPLE_ONE_IN = 16

#: PostgreSQL's own types that go in as text all the same: the binary form of some holds a number of the database
#: (reg…), of some depends on the session (xml), of some does not exist; jsonb is faster as text.
_AS_TEXT = re.compile(
    r"_?(reg[a-z]+|aclitem|xml|jsonb|pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list|refcursor)"
)


@dataclass(frozen=True)
class Column:
    """A column as the catalogue describes it; ``type_kind`` is ``pg_type.typtype``."""

    name: str
    type_schema: str
    type_name: str
    type_kind: str
    #: Whether the type has a binary output function.
    has_send: bool = True

    @property
    def form(self) -> Form:
        """How the column goes into the row's hash."""
        own = self.type_schema == "pg_catalog" and self.type_kind in "brm" and self.has_send
        return "binary" if own and not _AS_TEXT.fullmatch(self.type_name) else "text"


@dataclass(frozen=True)
class Table:
    """A table whose rows a logical backup holds."""

    oid: int
    name: QualifiedName
    size_bytes: int
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
    return "record_send-hash64-sum" if server_version >= 140000 else "record_send-md5-sum"


Verdict = Literal["equal", "differs", "unknown"]


def compare(wanted: Content, found: Content) -> Verdict:
    """Judge one table: a digest that is missing on either side leaves its content unknown, unless rows differ."""
    if wanted.rows != found.rows:
        return "differs"
    if wanted.digest is None or found.digest is None:
        return "unknown"
    return "equal" if wanted.digest == found.digest else "differs"


def are_comparable(*, wanted_method: str, wanted_probe: str, found_method: str, found_probe: str) -> bool:
    """Whether digests of two servers may be compared: both give the same figure for the same known values."""
    return wanted_method == found_method and wanted_probe == found_probe
