"""What may be said of an error of PostgreSQL."""

from __future__ import annotations

import doctest
from types import SimpleNamespace
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from ansible.module_utils.runbook.rules import failure
from ansible.module_utils.runbook.rules.postgres import server_error
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError, told

CANARY = "ssn 078-05-1120"


def error(code: str | None, message: str = CANARY, file: str = "execMain.c", **fields: Any) -> Any:
    """An error as psycopg2 raises it; its real ones can only be filled by a server."""
    base: dict[str, Any] = dict.fromkeys(("schema_name", "table_name", "column_name", "constraint_name", "context"))
    kind: Any = psycopg2.OperationalError
    if code:
        try:
            kind = psycopg2.errors.lookup(code)
        except KeyError:
            kind = psycopg2.InternalError
    made = type(kind.__name__, (kind,), {
        "__module__": kind.__module__, "pgcode": code,
        "diag": SimpleNamespace(**(base | {"message_primary": message, "source_file": file} | fields)),
    })  # fmt: skip
    return made(message)


@pytest.mark.parametrize("file", ["pl_exec.c", "plpy_elog.c", "plperl.c", "plv8.cc", "lib.rs"])
@pytest.mark.parametrize("code", ["42501", "53100", "XX001", "55P03", "42P01", "P0001", "23505", "28000", "ZZ999"])
def test_a_function_says_nothing(code, file):
    fields = {"constraint_name": CANARY, "table_name": CANARY, "column_name": CANARY, "context": CANARY}
    said = ServerError.of(error(code, file=file, **fields)).reason
    assert CANARY not in said
    assert code in said


@pytest.mark.parametrize(
    ("code", "file"),
    [("22P02", "numutils.c"), ("23505", "nbtinsert.c"), ("42P01", "namespace.c"), ("42704", "acl.c"),
     ("42703", "parse_type.c"), ("XX000", "elog.c"), ("P0001", "execMain.c"), ("22003", "int.c"),
     ("54000", "to_tsany.c")],
)  # fmt: skip
def test_text_that_may_quote_a_value_is_not_passed_on(code, file):
    assert CANARY not in ServerError.of(error(code, file=file)).reason


def test_a_statement_inside_of_a_function_is_not_ours():
    assert "column" in ServerError.of(error("42703", "column x does not exist", "parse_relation.c")).reason
    dynamic = error("42703", CANARY, "parse_relation.c", context="PL/pgSQL function f() line 1 at EXECUTE")
    assert CANARY not in ServerError.of(dynamic).reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (error("42501", "permission denied for table t", "aclchk.c"),
         "permission denied for table t (SQLSTATE 42501)"),
        (error("53100", "could not extend file", "../src/backend/storage/smgr/md.c"),
         "could not extend file (SQLSTATE 53100)"),
        (error("23505", CANARY, "execMain.c", schema_name="public", table_name="t", constraint_name="t_pkey"),
         "unique_violation (SQLSTATE 23505) at constraint t_pkey of table public.t; the server's log has its message"),
        (error("XX000", "invalid memory alloc request size 1073741824", "mcxt.c"),
         "invalid memory alloc request size 1073741824 (SQLSTATE XX000)"),
        (error("ZZ999"), "SQLSTATE ZZ999; the server's log has its message"),
        (error(None), "the connection to the server was lost"),
        (error("57P01"), "the connection to the server was lost"),
    ],
)  # fmt: skip
def test_what_is_said(made, reason):
    assert ServerError.of(made).reason == reason


@pytest.mark.parametrize(
    "line",
    [
        'role "app" does not exist',
        "permission denied for table secrets",
        'could not create unique index "people_pkey"',
        'new row for relation "people" violates check constraint "adult"',
        "must be owner of table people",
        'extension "postgis" is not available',
        'could not extend file "base/5/16384": No space left on device',
        "function public.f(text) does not exist",
        'null value in column "id" of relation "people" violates not-null constraint',
    ],
)
def test_of_a_program_known_sentences_pass(line):
    assert told(line) == line


@pytest.mark.parametrize(
    "line",
    [CANARY, f"permission denied for {CANARY}", f"patient {CANARY} does not exist", f"must be {CANARY}",
     f'new row for relation "people" violates {CANARY}', f'invalid input syntax for type date: "{CANARY}"',
     f'value too long for type character varying(3): "{CANARY}"', f"duplicate key value: {CANARY}",
     f"permission denied for table t\n{CANARY}", f"canceling statement due to {CANARY}"],
)  # fmt: skip
def test_of_a_program_nothing_else_passes(line):
    assert CANARY not in told(line)
    assert "078" not in told(line)


def _os_error(number: int, path: str | None = None) -> OSError:
    return OSError(number, "words of the system", path)


@pytest.mark.parametrize(
    "raised",
    [
        error("42P01"), error(None), error("42501", "permission denied for table t"),
        psycopg2.InterfaceError("connection already closed"),
        psycopg2.ProgrammingError("can't adapt"), _os_error(28, "/x"), _os_error(13), FileNotFoundError(2, "no", "/y"),
        TimeoutError(), ConnectionResetError(104, "reset"), MemoryError(), ImportError("no x", name="x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), RuntimeError("can't start new thread"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_an_operator_can_cause_has_a_sentence(raised):
    said = failure.sentence("pg_x", raised)
    assert said.startswith("pg_x: ")
    assert "foreseen" not in said
    assert CANARY not in said
    assert "words of the system" not in said or isinstance(raised, OSError)


def test_every_class_of_boto3_has_a_sentence():
    import botocore.exceptions as known  # noqa: PLC0415 - swept here alone

    for kind in vars(known).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            made = kind.__new__(kind)
            said = failure.sentence("s3_x", made)
            assert "foreseen" not in said, kind


def test_a_fault_of_ours_says_where():
    with pytest.raises(KeyError) as raised:
        raise KeyError(CANARY)
    said = failure.sentence("pg_x", raised.value)
    assert "should have foreseen" in said
    assert "test_server_error.py:" in said
    assert CANARY not in said


def test_doctests():
    assert doctest.testmod(server_error).failed == 0
