"""The rules of pg_archive: what is refused, which way is taken, how large a batch is."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import archive_batches as batches
from ansible.module_utils.runbook.rules.postgres import archive_plan as plans
from ansible.module_utils.runbook.rules.postgres import archive_refusals as refusals
from ansible.module_utils.runbook.rules.postgres import archive_words as words
from ansible.module_utils.runbook.rules.postgres.archive_tables import (
    Column,
    ForeignKey,
    Index,
    LocalObjects,
    Partition,
    Publication,
    Schema,
    Table,
    Trigger,
)

CUTOFF = datetime(2026, 8, 25, 2, tzinfo=UTC)
TIME = "timestamp with time zone"
SOURCE, ARCHIVE = QualifiedName("public", "audit_log"), QualifiedName("public", "audit_log_archive")
THERE = Schema(exists=True)


def column(name, type_="bigint", **more: Any):
    return Column(name, type_, type_, **more)


COLUMNS = (column("id", not_null=True), column("created_at", TIME, not_null=True), column("body", "jsonb"))
KEY = Index("audit_log_pkey", ("id",), unique=True, is_key=True, primary=True, ordered=True, signature="pk")
TIME_INDEX = Index("audit_log_created_at_idx", ("created_at",), ordered=True, signature="time")
PLAIN = Table(SOURCE, "r", COLUMNS, (KEY, TIME_INDEX))
KEPT = Table(ARCHIVE, "r", (*COLUMNS, column("archived_at", TIME)), (KEY,))


def partition(name, *, is_old=True, movable=True, signatures=frozenset({"pk", "time"})):
    return Partition(QualifiedName("public", name), "FOR VALUES …", "…", movable, is_old, signatures=signatures)


PARTS = replace(
    PLAIN,
    kind="p",
    partitioned_by="r",
    partition_columns=("created_at",),
    partitions=(partition("old"), partition("older"), partition("new", is_old=False, movable=False)),
)
PARTED = replace(KEPT, kind="p", partitioned_by="r", partition_columns=("created_at",))


def refused(source=PLAIN, archive=KEPT, schema=THERE, name=ARCHIVE, on="created_at"):
    with pytest.raises(RunbookError) as caught:
        refusals.refuse(source, archive, schema, name, on)
    message = caught.value.message
    assert message.endswith("."), message
    assert message.startswith(("source: ", "archive: ", "timestamp_column: ")), message
    return message


def test_nothing_speaks_against_good_tables():
    refusals.refuse(PLAIN, KEPT, THERE, ARCHIVE, "created_at")
    refusals.refuse(PLAIN, None, THERE, ARCHIVE, "created_at")
    refusals.refuse(PARTS, PARTED, THERE, ARCHIVE, "created_at")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "v"}, "a view"),
        ({"kind": "m"}, "a materialized view"),
        ({"kind": "f"}, "a foreign table"),
        ({"children": ("a", "b")}, "(a, b)"),
        ({"foreign_partitions": ("public.far",)}, "public.far"),
        ({"rules": ("hush",)}, "(hush)"),
        ({"row_security": True}, "BYPASSRLS"),
        ({"rights": frozenset({"SELECT", "USAGE"})}, "DELETE"),
        ({"rights": frozenset({"SELECT", "DELETE"})}, "USAGE on the schema"),
        ({"columns": (column("id"), column("at", TIME))}, "it has id, at"),
        ({"columns": (column("created_at", "text"),)}, "of type text"),
        (
            {"referencing_keys": (ForeignKey("fk", "public.notes", "CASCADE"),)},
            "fk of public.notes ON DELETE CASCADE",
        ),
        ({"subscriptions": ("sub",)}, "filled by a subscription (sub)"),
    ],
)
def test_source_is_refused(change, word):
    assert word in refused(source=replace(PLAIN, **change))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": SOURCE}, "the source itself"),
        ({"kind": "v"}, "not a table"),
        ({"children": ("a", "b")}, "(a, b)"),
        ({"foreign_partitions": ("public.far",)}, "public.far"),
        ({"cascading_keys": (ForeignKey("fk", "public.users", "CASCADE"),)}, "fk to public.users ON DELETE CASCADE"),
        (
            {"cascading_keys": (ForeignKey("fk", "public.users", "NO ACTION", "CASCADE"),)},
            "fk to public.users ON DELETE NO ACTION ON UPDATE CASCADE",
        ),
        ({"subscriptions": ("sub",)}, "filled by a subscription (sub)"),
        ({"publications": (Publication("out", inserts=True, deletes=False),)}, "out would publish"),
        ({"persistence": "u"}, "SET LOGGED"),
        ({"rules": ("hush",)}, "(hush)"),
        ({"row_security": True}, "BYPASSRLS"),
        ({"rights": frozenset({"USAGE"})}, "INSERT, SELECT"),
        ({"indexes": (), "owned": False, "owner": "dba"}, "'dba'"),
        ({"columns": (*COLUMNS[:2],)}, "the archive lacks body"),
        ({"columns": (*COLUMNS, column("x"), column("y"))}, "only the archive has x, y"),
        ({"columns": (*COLUMNS[:2], column("body", "json"))}, "body is jsonb in the source and json in the archive"),
        ({"columns": (*COLUMNS[:2], column("body", "jsonb", not_null=True))}, "body may be null in the source"),
        ({"columns": (*COLUMNS[:2], column("body", "jsonb", generated="'{}'"))}, "body is generated in the archive"),
        ({"columns": (*COLUMNS, column("archived_at", "text"))}, "archived_at of the archive is text"),
    ],
)
def test_archive_is_refused(change, word):
    assert word in refused(archive=replace(KEPT, **change))


def test_triggers_that_somebody_looked_at_may_fire():
    source = replace(PLAIN, triggers=(Trigger("t1", "public.leaf", before_row=True),))
    with pytest.raises(RunbookError, match=r"source: .*\(t1 of public\.leaf\).*allow_triggers"):
        refusals.refuse_triggers(source, None)
    refusals.refuse_triggers(source, KEPT, ["t1"])
    archive = replace(KEPT, triggers=(Trigger("t2"), Trigger("t3", before_row=True)))
    with pytest.raises(RunbookError, match=r"archive: .*\(t2\).*allow_triggers"):
        refusals.refuse_triggers(PLAIN, archive)
    refusals.refuse_triggers(PLAIN, archive, ["t2"])


def test_a_unique_index_that_lets_nulls_in_is_key_enough_for_an_archive():
    archive = replace(KEPT, indexes=(replace(KEY, is_key=False),))
    assert not make(archive=archive).make_key


def test_an_archive_is_published_no_further_than_its_source():
    def published(*, filtered=False):
        return (Publication("out", inserts=True, deletes=True, filtered=filtered),)

    archive, schema = replace(KEPT, publications=published()), replace(THERE, publications=published())
    assert "out would publish" in refused(archive=archive)
    assert "out would publish" in refused(source=replace(PLAIN, publications=published(filtered=True)), archive=archive)
    assert "out would publish" in refused(archive=None, schema=schema)
    source = replace(PLAIN, publications=published())
    refusals.refuse(source, archive, THERE, ARCHIVE, "created_at")
    refusals.refuse(source, None, schema, ARCHIVE, "created_at")
    plan = make(source)
    assert "subscribers are told of every row" in plan.warnings[0]
    assert "subscribers of out delete the same rows" in words.describe(plan, source, ARCHIVE)
    tally = batches.Tally(moved=5, batches=1, remaining=0)
    assert "subscribers of out were told to delete them too; 0 remain" in words.sentence(
        tally, plan, source, ARCHIVE, 1.0
    )


def test_a_difference_names_columns_and_the_fix():
    archive = replace(KEPT, triggers=(Trigger("scrub"),))
    said = words.difference(PLAIN, archive, words.Difference(500, 0, ("body",)))
    for word in ("something else in body", "500 rows was rolled back", "(scrub)"):
        assert word in said
    assert "took in fewer rows" in words.difference(PLAIN, archive, words.Difference(500, 3))
    generated = replace(KEPT, columns=(*COLUMNS[:2], column("body", "jsonb", generated="'{}'")))
    assert "DROP EXPRESSION" in words.difference(PLAIN, generated, words.Difference(1, 0, ("body",)))
    assert "just now" in words.difference(PLAIN, KEPT, words.Difference(1, 0, ("body",)))


def test_archive_in_the_sources_own_tree_is_refused():
    tree = frozenset({1, 2})
    assert "in one tree" in refused(source=replace(PLAIN, tree=tree), archive=replace(KEPT, tree=tree))


def test_drift_names_every_column_at_once():
    archive = replace(KEPT, columns=(column("id", "integer"), column("created_at", TIME), column("extra")))
    message = refused(archive=archive)
    for word in ("lacks body", "only the archive has extra", "id is bigint in the source and integer in the archive"):
        assert word in message


def test_drift_in_collation_alone_is_told():
    one, two = column("t", "text", collation="pg_catalog.C"), column("t", "text", collation="pg_catalog.default")
    message = refused(
        source=replace(PLAIN, columns=(*COLUMNS, one)), archive=replace(KEPT, columns=(*KEPT.columns, two))
    )
    assert "COLLATE pg_catalog.C in the source" in message
    assert "COLLATE pg_catalog.default in the archive" in message


def test_a_source_that_has_archived_at_itself_is_no_drift():
    both = (*COLUMNS, column("archived_at", "text"))
    refusals.refuse(replace(PLAIN, columns=both), replace(KEPT, columns=both), THERE, ARCHIVE, "created_at")


def test_a_column_generated_alike_is_no_drift():
    both = (*COLUMNS, column("sum", generated="(id + 1)"))
    refusals.refuse(replace(PLAIN, columns=both), replace(KEPT, columns=both), THERE, ARCHIVE, "created_at")


def test_archive_in_a_schema_that_is_missing_is_refused():
    assert "create it" in refused(archive=None, schema=Schema(exists=False))


def test_what_a_platform_keeps_for_itself_is_left_to_it():
    there = replace(THERE, platform_roles=("supabase_admin", "supabase_auth_admin"))
    entries = replace(PLAIN, name=QualifiedName("auth", "audit_log_entries"), owner="supabase_auth_admin")
    assert "is the platform's (supabase_auth_admin owns it)" in refused(source=entries, archive=None, schema=there)
    assert "is the platform's" in refused(source=replace(PLAIN, name=QualifiedName("cron", "job")), schema=there)
    inside = QualifiedName("storage", "audit_log_archive")
    assert "archive.audit_log_archive" in refused(archive=None, schema=there, name=inside)
    refusals.refuse(PLAIN, KEPT, there, ARCHIVE, "created_at")
    # A schema auth of one's own, on a server of one's own.
    own = replace(PLAIN, name=QualifiedName("auth", "log"), owner="app")
    refusals.refuse(own, None, THERE, QualifiedName("auth", "log_archive"), "created_at")


def test_key_prefers_the_primary_key():
    unique = Index("a_unique", ("code",), unique=True, is_key=True)
    assert replace(PLAIN, indexes=(unique, KEY)).key == ("id",)
    assert replace(PLAIN, indexes=(unique,)).key == ("code",)
    assert replace(PLAIN, indexes=(TIME_INDEX,)).key == ()


def test_route_by_index_by_blocks_and_by_partitions():
    assert plans.route(PLAIN, KEPT, "created_at", 150000) == plans.Route("rows", "index", "created_at")
    way = plans.route(replace(PLAIN, indexes=(KEY,)), KEPT, "created_at", 150000)
    assert (way.strategy, way.walk) == ("rows", "blocks")
    assert "btree index that begins with 'created_at'" in way.reason
    assert plans.route(PARTS, PARTED, "created_at", 150000).strategy == "partitions"
    assert plans.route(PARTS, None, "created_at", 150000).strategy == "partitions"


def test_route_refuses_an_old_server_without_index():
    with pytest.raises(RunbookError, match=r"before 14.*create an index"):
        plans.route(replace(PLAIN, indexes=()), KEPT, "created_at", 130014)


@pytest.mark.parametrize(
    ("source", "archive", "word"),
    [
        (replace(PARTS, partitioned_by="h"), None, "not ranges of 'created_at'"),
        (replace(PARTS, partition_columns=("created_at", "id")), None, "not ranges of 'created_at'"),
        (PARTS, KEPT, "is not partitioned by ranges"),
        (PARTS, replace(PARTED, has_default_partition=True), "default partition"),
        (PARTS, replace(PARTED, owned=False), "may not alter public.audit_log_archive"),
        (replace(PARTS, owned=False), PARTED, "may not alter public.audit_log"),
        (replace(PARTS, partitions=(partition("old", movable=False),)), PARTED, "public.old cannot be altered"),
        (replace(PARTS, partitions=(partition("old", signatures=frozenset()),)), PARTED, "public.old lacks an index"),
    ],
)
def test_route_says_why_partitions_go_row_by_row(source, archive, word):
    way = plans.route(source, archive, "created_at", 180000)
    assert way.strategy == "rows"
    assert word in way.reason


def counted(rows, **by_partition: int):
    parts = {
        QualifiedName("public", name): plans.Count(n, "2026-01-01", "2026-02-01") for name, n in by_partition.items()
    }
    return plans.Counted(
        plans.Count(rows, "2026-01-01", "2026-08-01") if rows else plans.Count(0, None, None), 0, parts
    )


def make(source=PLAIN, archive=KEPT, found=None, max_rows=None):
    way = plans.route(source, archive, "created_at", 180000)
    return plans.plan(source, archive, way, cutoff=CUTOFF, counted=found or counted(5), max_rows=max_rows)


def test_plan_of_rows():
    plan = make()
    assert (plan.strategy, plan.walk, plan.rows, plan.staying_rows) == ("rows", "index", 5, 0)
    assert not plan.make_archive
    assert not plan.make_key
    assert make(archive=None).make_archive
    assert make(archive=replace(KEPT, indexes=())).make_key


def test_plan_of_nothing_makes_nothing():
    plan = make(archive=None, found=counted(0))
    assert (plan.strategy, plan.walk, plan.make_archive, plan.make_key) == ("nothing", "", False, False)
    assert "Nothing in public.audit_log" in words.promise(plan, PLAIN, ARCHIVE)


def test_plan_of_partitions_leaves_what_is_partly_old():
    plan = make(PARTS, PARTED, counted(12, old=3, older=4, new=5))
    assert plan.strategy == "partitions"
    assert [(each.name.name, each.rows) for each in plan.partitions] == [("old", 3), ("older", 4)]
    assert (plan.rows, plan.staying_rows) == (7, 5)
    assert "5 old rows stay" in words.describe(plan, PARTS, ARCHIVE)


def test_what_a_partition_leaves_behind_is_in_the_plan():
    own = LocalObjects("app", foreign_keys=("fk",), triggers=("t1", "t2"))
    old = replace(partition("old"), local_objects=own)
    plan = make(replace(PARTS, partitions=(old,)), PARTED, counted(3, old=3))
    assert "old: 3 rows, without its foreign keys (fk), triggers (t1, t2)" in words.describe(plan, PARTS, ARCHIVE)
    refusals.refuse_local_objects([old, partition("older")])
    with pytest.raises(RunbookError, match=r"public\.old is published by itself \(out\)"):
        refusals.refuse_local_objects([replace(old, local_objects=replace(own, undroppable_publications=("out",)))])
    with pytest.raises(RunbookError, match=r"public\.old is unlogged"):
        refusals.refuse_local_objects([replace(old, local_objects=replace(own, unlogged=True))])


def test_an_empty_old_partition_is_moved_too():
    plan = make(PARTS, PARTED, counted(0))
    assert plan.strategy == "partitions"
    assert plan.rows == 0


def test_cap_is_checked_against_the_plan():
    assert make(max_rows=5).rows == 5
    with pytest.raises(RunbookError, match=r"max_rows: 5 rows .* 4 are allowed"):
        make(max_rows=4)
    assert make(PARTS, PARTED, counted(12, old=3, older=4, new=5), max_rows=7).rows == 7


def test_warnings_name_triggers_and_missing_keys():
    one, two = Trigger("t1", "public.leaf"), Trigger("t2", before_row=True)
    plan = make(replace(PLAIN, triggers=(one,), indexes=(TIME_INDEX,)), replace(KEPT, triggers=(two,)))
    text = " ".join(plan.warnings)
    assert "(t1 of public.leaf)" in text
    assert "(t2)" in text
    assert "no primary key" in text
    assert make().warnings == ()
    nulls = plans.Counted(plans.Count(1, "2026-01-01", "2026-01-01"), null_rows=1234)
    assert "1,234 rows of public.audit_log have no created_at" in make(found=nulls).warnings[0]


def test_made_archive_has_no_drift():
    source = replace(PLAIN, columns=(*COLUMNS, column("n", identity=True), column("g", generated="(id + 1)")))
    archive = replace(plans.made(source, ARCHIVE), indexes=(KEY,))
    refusals.refuse(source, archive, THERE, ARCHIVE, "created_at")
    assert archive.stamped


# Batches


def test_next_batch_fits_the_target_time():
    assert batches.next_batch(1000, 1000, 50.0, 50) == 1000
    assert batches.next_batch(1000, 1000, 40.0, 50) == 1250
    assert batches.next_batch(1000, 1000, 1.0, 50) == 2000, "grows to at most twice"
    assert batches.next_batch(8000, 8000, 200.0, 50) == 2000, "shrinks at once"
    assert batches.next_batch(8000, 8000, 60_000.0, 50) == 1000, "to no less than an eighth"
    assert batches.next_batch(1, 1, 60_000.0, 50) == 1
    assert batches.next_batch(8000, 10, 1.0, 50) == 8000, "few rows say nothing"
    assert batches.next_batch(8000, 10, 500.0, 50) == 4000, "unless they took long"
    assert batches.next_batch(1000, 1000, 0.0, 50) == 1000


def test_next_batch_keeps_its_bounds_whatever_happens():
    chance = random.Random(7)  # noqa: S311 - the same numbers in every run
    for _ in range(5000):
        asked = chance.randint(1, batches.MAX_BATCH_ROWS)
        moved = chance.randint(0, asked)
        size = batches.next_batch(asked, moved, chance.expovariate(1 / 100), chance.randint(5, 10_000))
        assert 1 <= size <= batches.MAX_BATCH_ROWS
        assert asked // 8 <= size <= asked * batches.GROWTH


@pytest.mark.parametrize("row_ms", [0.001, 0.005, 0.05, 1.0, 40.0, 400.0])
@pytest.mark.parametrize("target_ms", [20, 50, 200])
def test_next_batch_settles_at_the_target(row_ms, target_ms):
    """With a constant cost for each row and a fixed cost for each batch, batches come to the target within 20 steps."""
    size = batches.FIRST_BATCH_ROWS
    for _ in range(20):
        size = batches.next_batch(size, size, 1 + size * row_ms, target_ms)
    duration_ms = 1 + size * row_ms
    assert size in {1, batches.MAX_BATCH_ROWS} or 0.8 * target_ms <= duration_ms <= 1.2 * target_ms


def test_next_batch_recovers_from_one_stall():
    size = 8000
    size = batches.next_batch(size, size, 3000.0, 50)
    steps = 0
    while size < 7500:
        size = batches.next_batch(size, size, size * 50 / 8000, 50)
        steps += 1
        assert steps < 10
    assert size <= 8000


def test_pause_gives_back_the_overshoot():
    assert batches.pause_s(50, 50) == 0
    assert batches.pause_s(100, 50) == 0
    assert batches.pause_s(130, 50) == pytest.approx(0.03)
    assert batches.pause_s(60_000, 50) == pytest.approx(0.05)


def test_wal_pause_keeps_the_mean_rate():
    assert batches.wal_pause_s(10_000, 1.0, None) == 0
    assert batches.wal_pause_s(10_000, 1.0, 10_000) == 0
    assert batches.wal_pause_s(30_000, 1.0, 10_000) == pytest.approx(2.0)


def test_server_timestamps_sort_by_time():
    texts = [
        "2026-01-01 00:00:00.5+00",
        "-infinity",
        "2026-01-01 00:00:00+00",
        "0044-03-15 BC",
        "2026-01-02 00:00:00+00",
    ]
    expected = [
        "-infinity",
        "0044-03-15 BC",
        "2026-01-01 00:00:00+00",
        "2026-01-01 00:00:00.5+00",
        "2026-01-02 00:00:00+00",
    ]
    assert sorted(texts, key=batches.moment_key) == expected


# What is said in the end


def test_tally_adds_up():
    tally = batches.Tally()
    tally.add(2, 0.5, "2026-01-03", "2026-01-04")
    tally.add(3, 0.1, "2026-01-01", "2026-01-02")
    tally.add(0, 0.1, None, None)
    assert (tally.moved, tally.batches, tally.longest_s) == (5, 3, 0.5)
    assert (tally.oldest, tally.newest) == ("2026-01-01", "2026-01-04")


def test_sentence():
    plan = make()
    tally = batches.Tally(moved=117_000, remaining=0)
    assert words.sentence(tally, plan, PLAIN, ARCHIVE, 6.1) == (
        "Moved 117,000 rows older than 2026-08-25 02:00:00 UTC from public.audit_log to public.audit_log_archive "
        "in 6.1 s (19,180 rows/s); 0 remain."
    )
    assert "could not be counted" in words.sentence(batches.Tally(), plan, PLAIN, ARCHIVE, 1.0)
    assert "7 more were in the archive already" in words.sentence(batches.Tally(already=7), plan, PLAIN, ARCHIVE, 1.0)


def test_undone_says_why():
    plan = make()
    assert words.reason_for_remaining(batches.Tally(remaining=0), plan, PLAIN) is None
    conflict = words.reason_for_remaining(batches.Tally(remaining=2, conflicts=2), plan, PLAIN) or ""
    assert "2 rows stay" in conflict
    assert "by id" in conflict
    assert "locked" not in conflict
    assert "3 were locked" in (words.reason_for_remaining(batches.Tally(remaining=3), plan, PLAIN) or "")
    both = words.reason_for_remaining(batches.Tally(remaining=5, conflicts=2), plan, PLAIN) or ""
    assert "of 2 the archive" in both
    assert "3 were locked" in both


def test_rows_of_a_partly_old_partition_are_not_undone_work():
    plan = make(PARTS, PARTED, counted(12, old=3, older=4, new=5))
    assert words.reason_for_remaining(batches.Tally(remaining=5), plan, PARTS) is None
    assert "until their whole partition" in words.sentence(batches.Tally(remaining=5), plan, PARTS, ARCHIVE, 1.0)
    assert "2 rows stay" in (words.reason_for_remaining(batches.Tally(remaining=7), plan, PARTS) or "")
