"""Who dumps what, and that a failing program's words give no row away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import backup as rules
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import Content, Table

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
MB = 1 << 20


def tables(*sizes_mb: int) -> list[Table]:
    return [Table(i, QualifiedName("public", f"t{i}"), size * MB, ()) for i, size in enumerate(sizes_mb)]


def named(streams: list[list[Table]]) -> list[list[str]]:
    return [[table.name.name for table in stream] for stream in streams]


def test_the_biggest_tables_are_spread():
    assert rules.divide([], 4) == []
    assert rules.divide(tables(5, 9, 7), 1) == []
    # 9 goes to stream 0, 7 to stream 1, 5 to stream 1's neighbour with least.
    assert named(rules.divide(tables(5, 9, 7), 2)) == [["t2", "t0"]]
    assert named(rules.divide(tables(5, 9, 7), 3)) == [["t2"], ["t0"]]
    assert named(rules.divide(tables(5, 9), 8)) == [["t0"]]


def test_small_tables_weigh_on_stream_0():
    small = [Table(i, QualifiedName("s", f"x{i}"), MB - 1, ()) for i in range(30)]
    assert named(rules.divide(small + tables(10, 3), 2)) == [["t0", "t1"]]
    assert rules.divide(small, 4) == []


def test_no_table_is_in_two_streams_and_command_lines_stay_short():
    many = tables(*range(1, 3000))
    streams = rules.divide(many, 16)
    names = [table.name for stream in streams for table in stream]
    assert len(names) == len(set(names)) <= rules.MOST_NAMED
    words = rules.dump_options("data", snapshot="1", lock_timeout_ms=5, streams=streams)
    assert sum(word.startswith("--exclude-table-data=") for word in words) == len(names)
    given = [
        rules.dump_options("data", snapshot="1", lock_timeout_ms=5, stream=n + 1, streams=streams) for n in range(15)
    ]
    assert sum(word.startswith("--table=") for words in given for word in words) == len(names)
    assert not any(word.startswith("--exclude") for words in given for word in words)


def test_a_backup_is_never_named_after_a_time_that_is_still_to_come():
    assert rules.began(NOW, NOW + timedelta(days=1)) == NOW
    assert rules.began(NOW + timedelta(days=400), NOW) == NOW


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "pg_dump: error: query failed: ERROR:  permission denied for table secrets\npg_dump: detail: Query was: x",
            "permission denied for table secrets; grant pg_read_all_data",
        ),
        (
            'pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table "t"',
            "BYPASSRLS",
        ),
        ("pg_dump: error: query failed: ERROR:  out of shared memory\nHINT: x", "raise max_locks_per_transaction"),
        (
            "pg_dump: detail: Error message from server: server closed the connection unexpectedly",
            "the server was stopped",
        ),
        ("pg_dump: error: aborting because of server version mismatch", "at least as new"),
    ],
)
def test_what_is_known_gets_its_fix(stderr, says):
    assert says in rules.explain_tool("pg_dump", 1, stderr)


@pytest.mark.parametrize(
    "stderr",
    [
        'pg_dump: error: query failed: ERROR:  invalid input syntax for type json: "canary"\nDETAIL: canary',
        "pg_dump: error: Error message from server: ERROR: duplicate key (email)=(canary)",
        "pg_dump: error: could not write 'canary' somewhere",
        "canary\ncanary: error: canary",
        "pg_dump: error: ERROR canary",
        "",
    ],
)
def test_what_is_not_known_gives_no_row_away(stderr):
    said = rules.explain_tool("pg_dump", 1, stderr)
    assert "canary" not in said
    assert "pg_dump ended with 1" in said
    assert "\n" not in said


def test_signals():
    assert "killed by signal 9" in rules.explain_tool("pg_dump", -9, "")


def test_recipients():
    wrong: list[tuple[rules.Encryption, tuple[str, ...]]] = [
        ("age", ()), ("none", ("x",)), ("gpg", ("-o",)), ("age", (" ",)),
    ]  # fmt: skip
    for encryption, recipients in wrong:
        with pytest.raises(RunbookError, match="recipients: "):
            rules.Settings(1, 1, encryption, recipients).check()
    with pytest.raises(RunbookError) as refused:
        rules.Settings(1, 1, "age", ("age-secret-key-1canary",)).check()
    assert "canary" not in refused.value.message
    rules.Settings(1, 1, "age", ("age1x",)).check()


def test_a_client_at_least_as_new_as_the_server():
    rules.check_client(18, 150018, bindir="/x")
    rules.check_client(15, 150018, bindir="/x")
    with pytest.raises(RunbookError, match="older than the server's 15"):
        rules.check_client(14, 150018, bindir="/x")


def test_sentences():
    figures = rules.Figures(2, 1234567, 3 << 30, 1 << 30, 10.0, "all")
    said = rules.sentence("shop", "s3://b/x/", figures)
    assert said == (
        "Backed up shop, 2 tables with 1,234,567 rows, to s3://b/x/ in 10.0 s: 3.0 GiB at 307 MiB/s, 1.0 GiB stored, "
        "every table hashed."
    )
    assert "in 2 streams." in rules.promise("shop", "s3://b/x/", tables(5), [tables(5)])
    assert "in 1 stream." in rules.promise("shop", "s3://b/x/", tables(5), [])
    lines = rules.describe("shop", tables(5, 3), [tables(5)]).splitlines()
    assert lines[2] == "stream 1: 1 table, 5.0 MiB: public.t0"


def test_a_row_that_is_too_large_for_any_dump_has_its_ways_out():
    said = (
        'pg_dump: error: Dumping the contents of table "big" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  {}\n"
        "pg_dump: detail: Command was: COPY public.big (b) TO stdout;\n"
    )
    for server in (
        "invalid memory alloc request size 1200000003",
        "out of memory\nDETAIL:  Cannot enlarge string buffer containing 600000000 bytes by 600000000 more bytes.",
        "string buffer exceeds maximum allowed length (1073741823 bytes)",
    ):
        sentence = rules.explain_tool("pg_dump", 1, said.format(server))
        for words in ('A row of "big"', "1 GiB", "db_backup_without_rows", "pitr.yml"):
            assert words in sentence
    assert "db_backup_without_rows" not in rules.explain_tool("pg_dump", 1, said.format("out of memory"))


def test_rows_are_left_out_only_where_a_restore_can_do_without():
    a, b, c = (QualifiedName("public", name) for name in "abc")
    tables = [Table(number, name, 0, ()) for number, name in enumerate((a, b, c))]
    assert rules.check_without_rows([a], tables, [(a, b), (a, a)]) == {a}
    assert rules.check_without_rows([a, b], tables, [(b, a)]) == {a, b}
    with pytest.raises(RunbookError, match=r"rows of public\.b refer to public\.a"):
        rules.check_without_rows([a], tables, [(b, a)])
    with pytest.raises(RunbookError, match=r"there is no table public\.x"):
        rules.check_without_rows([QualifiedName("public", "x")], tables, [])
    options = rules.dump_options("data", snapshot="s", lock_timeout_ms=1, without_rows=[a])
    assert '--exclude-table-data="public"."a"' in options


def test_the_parts_of_a_dump_take_everything_once():
    streams = [tables(9), tables(7)]
    left_out = [QualifiedName("public", "t8")]
    made = rules.parts(
        streams, snapshot="1", lock_timeout_ms=5, without_rows=left_out, dump=["pg_dump", "-h", "x"],
        dump_all=["pg_dumpall", "-h", "x"],
    )  # fmt: skip
    assert [(part.what, part.stream, part.program) for part in made] == [
        ("data", 0, "pg_dump"), ("data", 1, "pg_dump"), ("data", 2, "pg_dump"), ("schema", 0, "pg_dump"),
        ("globals", 0, "pg_dumpall"),
    ]  # fmt: skip
    assert made[0].words[:3] == ["pg_dump", "-h", "x"]
    assert '--exclude-table-data="public"."t8"' in made[0].words
    assert not any("t8" in word for part in made[1:] for word in part.words)
    assert made[-1].words[-1] == "--no-role-passwords"
    assert made[1].object_name("none", 0) == "data-01.dump.zst"


def test_a_manifest_says_of_each_table_what_a_restored_one_must_have():
    first, second = tables(1, 2)
    contents = {first.name: Content(3, "abc")}
    found = rules.entries([first, second], contents, coverage="all", without_rows={second.name})
    assert [(each.rows, each.hash) for each in found] == [(3, "abc"), (0, "0")]
    unhashed = rules.entries([first], {}, coverage="none", without_rows=set())
    assert [(each.rows, each.hash, each.size_bytes) for each in unhashed] == [(None, None, MB)]


def test_sequences_that_were_there_all_the_while():
    name, late = QualifiedName("public", "s"), QualifiedName("public", "late")
    assert rules.sequences(None, {name: "(1,t)"}) is None
    assert rules.sequences({name: "(1,t)"}, None) is None
    (found,) = rules.sequences({name: "(1,t)"}, {name: "(4,t)", late: "(1,f)"}) or ()
    assert (found.name, found.before, found.after) == ("s", "(1,t)", "(4,t)")
