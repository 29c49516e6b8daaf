"""What may be said of an error of PostgreSQL: never the content of a row.

A server's message may quote one. ``RAISE`` in a trigger, in a function of a check, a default or an index says whatever
its author wrote, under any SQLSTATE that he chose; a cast that fails quotes its value, a unique violation's DETAIL the
key, CONTEXT the statement. So DETAIL, HINT and CONTEXT are never passed on, and the message only where it comes from
the server's own source and is of a class whose text names objects, files and processes. Else the condition, its
SQLSTATE and the names of the objects say what happened, and the server's log has the rest.

The classes are those of PostgreSQL's manual, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

#: By the beginning of their SQLSTATE: connections, transactions, logins, databases, resources, administration, files,
#: damaged data, missing rights.
_NAMES_ONLY = ("08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX001", "XX002", "42501", "0L", "2BP01")
#: Of definitions (class 42) only what is said while a statement is read: a cast to regclass quotes its value.
_READING = frozenset({
    "aclchk.c", "dbcommands.c", "execReplication.c", "extension.c", "heap.c", "index.c", "indexcmds.c",
    "parse_coerce.c", "parse_func.c", "parse_oper.c", "parse_relation.c", "parse_target.c", "partbounds.c",
    "schemacmds.c", "tablecmds.c", "user.c",
})  # fmt: skip
#: Files of the server; those of procedural languages begin with ``pl``, and say what a function made up.
_CORE = re.compile(r"(?!pl)[A-Za-z0-9_]+\.[cly]")
#: Of unlimited classes, texts with nothing but sizes and numbers in them.
_FIXED = re.compile(
    r"invalid memory alloc request size \d+|out of memory|stack depth limit exceeded"
    r"|(?:missing|unexpected) chunk number \d+(?: \(expected \d+\))? (?:for|in) toast value \d+(?: in pg_toast_\d+)?"
    r"|cache lookup failed for \w+ \d+|index row (?:size|requires) \d+[\w ,]*|could not open relation with OID \d+"
    r"|tuple concurrently (?:updated|deleted)"
)


@dataclass(frozen=True)
class ServerError:
    """An error as the protocol tells it, without the fields that may quote a row."""

    sqlstate: str | None
    #: The driver's class of it, such as ``UniqueViolation``.
    kind: str
    message: str = ""
    #: Where in the server's source it was raised.
    file: str = ""
    has_context: bool = False
    #: Names of what it is about, ``constraint c`` first; the innermost comes first.
    objects: tuple[str, ...] = ()
    constraint: str | None = None

    @classmethod
    def of(cls, error: Any) -> ServerError:
        """Read a ``psycopg2.Error``."""
        diag = getattr(error, "diag", None)
        file = str(getattr(diag, "source_file", None) or "").rpartition("/")[2]
        objects = []
        # RAISE can fill these fields too, with anything.
        if _CORE.fullmatch(file):
            table = ".".join(filter(None, (diag.schema_name, diag.table_name)))  # type: ignore[union-attr] # it has a file
            for noun, name in (
                ("constraint", diag.constraint_name),  # type: ignore[union-attr] # likewise
                ("column", diag.column_name),  # type: ignore[union-attr] # likewise
                ("table", table),
            ):
                objects += [f"{noun} {name}"] if name else []
        return cls(
            sqlstate=getattr(error, "pgcode", None),
            kind=type(error).__name__,
            message=" ".join(str(getattr(diag, "message_primary", None) or "").split()),
            file=file,
            has_context=bool(getattr(diag, "context", None)),
            objects=tuple(objects),
            constraint=(diag.constraint_name or None) if objects else None,  # type: ignore[union-attr] # likewise
        )

    @property
    def is_lost_connection(self) -> bool:
        """The session is gone: the network, a restart, or somebody who ended it."""
        if self.sqlstate is None:
            return self.kind in ("OperationalError", "InterfaceError")
        return self.sqlstate.startswith(("57P", "08"))

    @property
    def condition(self) -> str:
        """The condition's name, ``unique_violation``; empty for a code that PostgreSQL does not know."""
        if not self.sqlstate or (self.kind.endswith("Error") and self.kind in _FAMILIES):
            return ""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.kind.rstrip("_")).lower()

    @property
    def quotable(self) -> str:
        """The server's message where its text cannot hold the content of a row, else nothing."""
        code = self.sqlstate or ""
        if _FIXED.fullmatch(self.message):
            return self.message
        if self.file and not _CORE.fullmatch(self.file):
            return ""
        if code.startswith(_NAMES_ONLY):
            return self.message
        return self.message if code[:2] == "42" and self.file in _READING and not self.has_context else ""

    @property
    def reason(self) -> str:
        """What happened, as a part of a sentence without its full stop."""
        if self.is_lost_connection:
            return "the connection to the server was lost"
        if self.sqlstate is None:
            return f"the driver refused it ({self.kind})"
        if self.quotable:
            return f"{self.quotable} (SQLSTATE {self.sqlstate})"
        name = f"{self.condition} (SQLSTATE {self.sqlstate})" if self.condition else f"SQLSTATE {self.sqlstate}"
        where = f" at {' of '.join(self.objects)}" if self.objects else ""
        return f"{name}{where}; the server's log has its message"


#: Classes that psycopg2 falls back to for a SQLSTATE of somebody's own.
_FAMILIES = frozenset({
    "DatabaseError", "DataError", "Error", "IntegrityError", "InternalError", "NotSupportedError", "OperationalError",
    "ProgrammingError",
})  # fmt: skip

# What programs say ----------------------------------------------------------------------------------------------------

_NAME = r'(?:"(?:[^"]|""){1,63}"|[^\s"]{1,63})'
_KIND = (
    r"(?:access method|aggregate|collation|column|database|domain|event trigger|extension|foreign-data wrapper"
    r"|foreign server|function|index|language|large object|materialized view|operator(?: class| family)?|policy"
    r"|procedure|publication|relation|role|schema|sequence|server|subscription|table|tablespace|text search \w+|trigger"
    r"|type|view)"
)
#: A program prints the server's message without its SQLSTATE and source, so only sentences are passed on that are known
#: to have nothing but names in them.
_TOLD = re.compile(
    "|".join((
        (
            rf"{_KIND} {_NAME}(?:\([^()]*\))?(?: for encoding {_NAME}| (?:of|for) {_KIND} {_NAME})?"
            r" (?:does not exist|already exists|is not available)"
        ),
        rf"permission denied (?:for|to) {_KIND} {_NAME}",
        rf"permission denied to (?:create|alter|set|drop|change|rename)[a-z ]*(?:{_NAME})?",
        rf"must be (?:superuser|owner|member|able)[a-z ]*(?:{_NAME})?(?: or [a-z ]+(?:{_NAME})?)?",
        rf"(?:duplicate key value violates unique constraint|could not create unique index) {_NAME}",
        rf"null value in column {_NAME} (?:of relation {_NAME} )?violates not-null constraint",
        rf"new row for relation {_NAME} violates check constraint {_NAME}",
        rf"check constraint {_NAME} of relation {_NAME} is violated by some row",
        rf"insert or update on table {_NAME} violates foreign key constraint {_NAME}",
        rf"new row violates row-level security policy for table {_NAME}",
        rf"query would be affected by row-level security policy for table {_NAME}",
        rf"no partition of relation {_NAME} found for row",
        rf"operator does not exist: {_NAME} \S+ {_NAME}",
        rf"unrecognized configuration parameter {_NAME}",
        r"could not (?:extend|write|open|create|fsync|read)[a-z ]* file \"[\w./-]+\"(?:: [A-Z][a-z ]+)?",
        r"could not read blocks? [\d.]+ in file \"[\w./-]+\"(?:: [\w ]+)?",
        r"invalid page in block \d+ of relation [\w./]+|No space left on device",
        r"canceling statement due to [a-z -]+|terminating connection due to [a-z -]+|deadlock detected",
        r"the database system is [a-z ]+|sorry, too many clients already|too many connections for \w+ \"[^\"]+\"",
        r"cannot execute [A-Z ]+ in a read-only transaction|generation expression is not immutable",
        r"no schema has been selected to create in|out of shared memory|unsupported version \S+ in file header",
        r"server closed the connection unexpectedly|snapshot \S+ does not exist|invalid snapshot identifier: \"\S+\"",
        _FIXED.pattern,
    ))
)  # fmt: skip
#: Their values follow.
_CUT = re.compile(
    r"(?:invalid input syntax for (?:type )?[\w ]+|invalid byte sequence for encoding \"\w+\""
    r"|value too long for type [\w ]+\(\d+\)|(?:date/time )?[\w ]*field value out of range"
    r"|value out of range for type \w+|invalid input value for enum [\w.\"]+|malformed [\w ]+ literal"
    r"|extra data after last expected column|missing data for column \"[^\"]+\")(?=$|:| )"
)


def told(message: str) -> str:
    """Of a server's message that a program printed, what holds no row; empty where nothing does.

    >>> told('role "app" does not exist')
    'role "app" does not exist'
    >>> told('column "version" of relation "objects" does not exist')
    'column "version" of relation "objects" does not exist'
    >>> told('invalid input syntax for type json: "secret"')
    'invalid input syntax for type json'
    >>> told("patient 4711 is not of age")
    ''
    """
    text = " ".join(message.split()).rstrip(".")
    if _TOLD.fullmatch(text):
        return text
    cut = _CUT.match(text)
    return cut.group(0).strip() if cut else ""
