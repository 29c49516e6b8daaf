"""Warnings of programs that end well are kept, and what the server said is not, unless it is known to hold no row."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.backup import barman, restore
from ansible.module_utils.runbook.drivers.s3 import stream
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_gaps import Gap, sentences, without
from ansible.module_utils.runbook.rules.backup.tool_warnings import MOST, said_warnings


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("pg_dump: warning: subscriptions not dumped\n", "pg_dump: subscriptions not dumped"),
        ("pg_dump: warning: there are circular keys:\npg_dump: detail:   t\npg_dump: hint: do not\npg_dump: last",
         "pg_dump: there are circular keys: (t) (do not)"),
        ("pg_restore: warning: errors ignored on restore: 1", "pg_restore: errors ignored on restore: 1"),
        ("2026-11-23 03:00:00,000 [4711] WARNING: the tablespace x is left out", "the tablespace x is left out"),
        ('WARNING: skipping invalid index: "public"."i"', 'skipping invalid index: "public"."i"'),
        ("gpg: WARNING: unsafe permissions on homedir", "gpg: unsafe permissions on homedir"),
        ('WARNING:  database "app" has a collation version mismatch\nDETAIL:  It was made with 2.36.',
         'The server: database "app" has a collation version mismatch'),
    ],
)  # fmt: skip
def test_a_warning_is_kept_in_the_programs_words(stderr, said):
    assert said_warnings(stderr) == (said,)


def test_what_a_function_of_a_user_said_is_counted_and_not_kept():
    stderr = "WARNING:  patient Doe\nCONTEXT:  PL/pgSQL function f()\nWARNING:  patient Roe\npg_dump: warning: x\n"
    assert said_warnings(stderr) == ("pg_dump: x", "The server gave 2 warnings; they are in its log.")


def test_nothing_else_is_a_warning():
    assert said_warnings("pg_dump: last built-in OID is 16383\nNOTICE:  x\npg_dump: error: y\n") == ()


def test_a_thousand_warnings_are_some():
    said = said_warnings("".join(f"pg_dump: warning: {n}\n" for n in range(1000)))
    assert len(said) == MOST + 1
    assert said[-1] == f"{1000 - MOST} more warnings were given."


def test_gaps_are_one_phrase_a_kind():
    many = [Gap("extension", f"x.t{n}", n) for n in range(1, 8)]
    of_pg_dump, of_extensions = sentences([*many, Gap("subscription", "s"), Gap("extension", "x.big", 100_001)])
    assert of_pg_dump == "the subscription s, which pg_dump takes for a superuser only"
    assert of_extensions.startswith(
        "rows of x.t1 (1 row), x.t2 (2 rows), x.t3 (3 rows), x.t4 (4 rows), x.t5 (5 rows) and 3"
    )
    assert str(Gap("extension", "x.big", 100_001)) == "x.big (more than 100,000 rows)"
    assert without(()) == ""


def test_a_program_whose_output_is_a_stream_is_heard():
    programs = stream.Programs()
    for _ in range(2):
        words = ["sh", "-c", "echo 'pg_dump: warning: left out' >&2; echo data"]
        output = stream.Output(programs, words, explain=lambda *_: "failed")
        assert output.read() + output.read() == b"data\n"
    assert said_warnings("\n".join(programs.said)) == ("pg_dump: left out",)


def test_a_pg_restore_that_ends_well_is_heard(tmp_path):
    """What it counts as ignored are errors that mean nothing."""
    lines = "pg_restore: warning: errors ignored on restore: 1\npg_restore: warning: x\n"
    with (tmp_path / "stderr").open("wb+") as stderr:
        process = subprocess.Popen(["sh", "-c", 'printf "$1" >&2', "sh", lines], stderr=stderr)
        process.wait()
        programs = stream.Programs()
        assert restore.Program(process, stderr, lambda _: [], programs.said).is_done()
    assert said_warnings("\n".join(programs.said)) == ("pg_restore: x",)


def test_barman_is_heard_and_no_key_with_it(tmp_path):
    program = tmp_path / "barman-cloud-backup"
    program.write_text("#!/bin/sh\necho '2026-11-23 03:00:00,000 [1] WARNING: hunter2 is left out' >&2\n")
    program.chmod(0o755)
    heard: list[tuple[str, str]] = []
    given: dict[str, Any] = dict.fromkeys(("access_key", "session_token", "profile", "endpoint_url", "aws_ca_bundle"))
    given |= {"secret_key": "hunter2", "region": "us-east-1"}
    store: Any = None
    engine = barman.Engine(tmp_path, store, "p", "s", tmp_path, given, lambda *said: heard.append(said))
    engine.run([str(program)], deadline_s=60)
    assert [(name, said_warnings(said)) for name, said in heard] == [
        ("barman-cloud-backup", ("*** is left out",)),
    ]


@pytest.mark.parametrize(("said", "code"), [("permission denied for view pg_roles", "not_permitted"), ("no such", "")])
def test_what_a_program_was_refused_has_a_code(said: str, code: str) -> None:
    words = ["sh", "-c", 'echo "$1" >&2; exit 1', "sh", said]
    output = stream.Output(stream.Programs(), words, explain=lambda *_: "It failed.")
    with pytest.raises(RunbookError, match="It failed") as caught:
        output.read()
    assert caught.value.code == code
