"""Which tables need what, and in which order."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import vacuum as rule
from ansible.module_utils.runbook.rules.postgres.vacuum import Figures, Part, Priority, Report, Settings, Table, Work

NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
SETTINGS = Settings(
    vacuum_scale_factor=0.05,
    analyze_scale_factor=0.05,
    autovacuum_freeze_max_age=200_000_000,
    autovacuum_multixact_freeze_max_age=400_000_000,
    server_version=180000,
)
OLD = replace(SETTINGS, server_version=150000)


def part(**changes: Any) -> Part:
    return replace(Part(rows=10_000, dead_rows=0, inserted_rows=0, xid_age=1000, mxid_age=10), **changes)


def table(
    name: str = "t", oid: int | None = None, *, schema: str = "public", heap: Part | None = None, **changes: Any
) -> Table:
    made = Table(
        oid=oid if oid is not None else 20_000 + sum(name.encode()),
        name=QualifiedName(schema, name),
        kind="r",
        heap=heap or part(),
        toast=None,
        modified_rows=0,
        live_rows=10_000,
        columns=4,
        heap_pages=100,
        total_pages=150,
        last_vacuum=NOW,
        last_analyze=NOW,
        last_autoanalyze=None,
        parent_oid=None,
        permitted=True,
    )
    return replace(made, **changes)


def plan(
    *tables: Table, mode: rule.Mode = "needed", wanted: tuple[str, ...] = (), settings: Settings = SETTINGS
) -> list[Work]:
    return rule.plan(tables, mode=mode, wanted=[QualifiedName("public", name) for name in wanted], settings=settings)


def only(*tables: Table, **options: Any) -> Work:
    works = plan(*tables, **options)
    assert len(works) == 1, rule.describe(works)
    return works[0]


def test_a_plan_counts_what_the_archive_step_before_it_leaves_dead() -> None:
    source, archive, parent = table("log", 1), table("log_archive", 2), table("parts", 3, kind="p")
    after = rule.after_move([source, archive, parent], source.name, archive.name, 170_406)
    assert (after[0].heap.dead_rows, after[1].heap.inserted_rows, after[2]) == (170_406, 170_406, parent)
    assert rule.plan([source, archive], mode="needed", wanted=[], settings=SETTINGS) == []
    works = rule.plan(after, mode="needed", wanted=[], settings=SETTINGS)
    assert [str(work.table.name) for work in works] == ["public.log", "public.log_archive"]


def test_a_table_in_order_needs_nothing() -> None:
    assert plan(table()) == []


@pytest.mark.parametrize(("dead", "needs"), [(550, False), (551, True)])
def test_dead_rows_count_above_threshold_plus_share(dead: int, needs: bool) -> None:
    works = plan(table(heap=part(dead_rows=dead)))
    assert [(work.action, work.priority) for work in works] == ([("vacuum", Priority.DEAD_ROWS)] if needs else [])
    if needs:
        assert works[0].reason == "551 dead rows (limit 550)"


def test_a_huge_table_does_not_wait_for_its_share() -> None:
    huge = part(rows=40e9, dead_rows=100_000_001)
    assert only(table(heap=huge)).action == "vacuum"
    owner_says = replace(huge, options={"autovacuum_vacuum_max_threshold": "-1"})
    assert plan(table(heap=owner_says)) == []


@pytest.mark.parametrize(("inserted", "needs"), [(3000, False), (3001, True)])
def test_many_inserted_rows_want_a_vacuum(inserted: int, needs: bool) -> None:
    works = plan(table(heap=part(inserted_rows=inserted)))
    assert [(work.action, work.priority) for work in works] == ([("vacuum", Priority.INSERTED_ROWS)] if needs else [])


@pytest.mark.parametrize(("modified", "needs"), [(550, False), (551, True)])
def test_modified_rows_want_an_analyze(modified: int, needs: bool) -> None:
    works = plan(table(modified_rows=modified))
    assert [(work.action, work.priority) for work in works] == ([("analyze", Priority.STATISTICS)] if needs else [])


def test_dead_rows_and_stale_statistics_are_one_piece_of_work() -> None:
    work = only(table(heap=part(dead_rows=5000), modified_rows=5000))
    assert (work.action, work.priority) == ("vacuum_analyze", Priority.DEAD_ROWS)
    assert "dead rows" in work.reason
    assert "modified" in work.reason


def test_never_analysed_is_not_in_order() -> None:
    assert only(table(last_analyze=None)).action == "analyze"


def test_a_table_without_any_statistics_is_vacuumed_and_analysed() -> None:
    work = only(table(last_analyze=None, last_vacuum=None))
    assert (work.action, work.priority) == ("vacuum_analyze", Priority.STATISTICS)
    assert "no statistics" in work.reason


def test_system_catalogs_were_analysed_by_initdb() -> None:
    catalog = table("pg_class", 1259, schema="pg_catalog", last_analyze=None, last_vacuum=None)
    assert plan(catalog) == []
    assert only(replace(catalog, heap=part(dead_rows=9999))).action == "vacuum"


@pytest.mark.parametrize(
    ("options", "dead", "needs"),
    [
        ({"autovacuum_vacuum_scale_factor": "0.5"}, 5050, False),
        ({"autovacuum_vacuum_scale_factor": "0.5"}, 5051, True),
        ({"autovacuum_vacuum_threshold": "10", "autovacuum_vacuum_scale_factor": "0"}, 11, True),
        ({"autovacuum_enabled": "false"}, 551, True),
        ({"fillfactor": "70"}, 550, False),
    ],
)
def test_a_tables_own_parameters_go_first(options: dict[str, str], dead: int, needs: bool) -> None:
    assert bool(plan(table(heap=part(dead_rows=dead, options=options)))) is needs


def test_a_table_may_switch_vacuums_after_inserts_off() -> None:
    assert plan(table(heap=part(inserted_rows=10**7, options={"autovacuum_vacuum_insert_threshold": "-1"}))) == []


def test_analyze_parameters_of_a_table_go_first() -> None:
    options = {"autovacuum_analyze_threshold": "0", "autovacuum_analyze_scale_factor": "0.001"}
    assert only(table(modified_rows=11, heap=part(options=options))).action == "analyze"


def test_toast_counts_into_its_tables_need() -> None:
    work = only(table(toast=part(dead_rows=10_000)))
    assert (work.action, work.reason) == ("vacuum", "10,000 dead rows in TOAST (limit 550)")


@pytest.mark.parametrize(
    "changes",
    [
        {"heap": part(xid_age=150_000_000)},
        {"heap": part(mxid_age=300_000_000)},
        {"toast": part(xid_age=150_000_000)},
        {"heap": part(xid_age=75_000, options={"autovacuum_freeze_max_age": "100000"})},
    ],
)
def test_wraparound_comes_first_and_freezes(changes: dict[str, Any]) -> None:
    old = table("old", **changes)
    works = plan(table("dead", heap=part(dead_rows=10**9), total_pages=10**9), table("wanted"), old, wanted=("wanted",))
    assert [str(work.table.name) for work in works] == ["public.old", "public.wanted", "public.dead"]
    assert (works[0].action, works[0].priority, works[0].overdue) == ("freeze", Priority.WRAPAROUND, False)
    assert "75% of autovacuum" in works[0].reason


def test_a_tables_freeze_age_cannot_exceed_the_servers() -> None:
    lax = part(xid_age=150_000_000, options={"autovacuum_freeze_max_age": "2000000000"})
    assert only(table(heap=lax)).action == "freeze"


def test_just_below_the_freeze_age_is_in_order_and_far_above_is_overdue() -> None:
    assert plan(table(heap=part(xid_age=149_999_999))) == []
    assert only(table(heap=part(xid_age=220_000_000))).overdue


def test_mode_all_takes_every_table_and_those_in_need_first() -> None:
    catalog = table("pg_class", 1259, schema="pg_catalog", total_pages=10**6)
    works = plan(table("idle"), table("dead", heap=part(dead_rows=999)), table("p", kind="p"), catalog, mode="all")
    assert [(str(work.table.name), work.action) for work in works] == [
        ("public.dead", "vacuum_analyze"),
        ("public.idle", "vacuum_analyze"),
        ("pg_catalog.pg_class", "vacuum_analyze"),
        ("public.p", "analyze"),
    ]
    assert [work.needed for work in works] == [True, False, False, False]


def test_a_wanted_table_is_done_in_any_case() -> None:
    work = only(table("t"), table("u"), wanted=("t",))
    assert (str(work.table.name), work.action, work.reason) == ("public.t", "vacuum_analyze", "on demand")


def test_a_wanted_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        RunbookError, match=r"^tables: there is no table public\.T in this database.*upper and lower case"
    ):
        plan(table("t"), wanted=("T",))


def test_a_wanted_table_that_may_not_be_touched_is_refused() -> None:
    with pytest.raises(RunbookError, match=r"^tables: this user may not vacuum public\.t; run playbooks/db_roles"):
        plan(table("t", permitted=False), wanted=("t",))


def partitioned(**leaf: Any) -> list[Table]:
    return [
        table("root", 30_001, kind="p"),
        table("branch", 30_002, kind="p", parent_oid=30_001),
        table("leaf", 30_003, parent_oid=30_002, **leaf),
        table("leaf2", 30_004, parent_oid=30_001),
    ]


def names(works: list[Work]) -> list[tuple[str, str]]:
    return [(work.table.name.name, work.action) for work in works]


def test_partitions_first_then_their_parents() -> None:
    assert plan(*partitioned()) == []
    stale = partitioned(modified_rows=9999)
    assert names(plan(*stale)) == [("leaf", "analyze"), ("branch", "analyze"), ("root", "analyze")]


def test_before_18_a_parents_analyze_replaces_that_of_its_partitions() -> None:
    stale = partitioned(modified_rows=9999)
    assert names(plan(*stale, settings=OLD)) == [("root", "analyze")]
    both = partitioned(modified_rows=9999, heap=part(dead_rows=9999))
    assert names(plan(*both, settings=OLD)) == [("leaf", "vacuum"), ("root", "analyze")]


def test_a_wanted_parent_stands_for_its_partitions() -> None:
    assert names(plan(*partitioned(), wanted=("root",))) == [
        ("leaf", "vacuum_analyze"),
        ("leaf2", "vacuum_analyze"),
        ("branch", "analyze"),
        ("root", "analyze"),
    ]


def test_a_parent_follows_what_autovacuum_did_to_its_partitions() -> None:
    root, branch, leaf, other = partitioned()
    later = replace(leaf, last_autoanalyze=NOW + timedelta(hours=1))
    assert names(plan(root, branch, later, other)) == [("branch", "analyze"), ("root", "analyze")]


def test_a_parent_that_was_never_analysed() -> None:
    root, *others = partitioned()
    work = only(replace(root, last_analyze=None), *others)
    assert (work.action, work.priority) == ("analyze", Priority.PARTITIONED)
    # Version 13 keeps no time of it: only the partitions tell.
    thirteen = replace(SETTINGS, server_version=130020)
    assert plan(replace(root, last_analyze=None), *others, settings=thirteen) == []


def test_pg_statistic_is_swept_after_a_pass_that_fills_it() -> None:
    catalog = table("pg_statistic", 2619, schema="pg_catalog", heap=part(rows=400))
    some = [table(f"t{number}", 40_000 + number, modified_rows=9999) for number in range(20)]
    works = plan(catalog, *some)
    assert works[-1] == Work(catalog, "vacuum", "this pass replaces about 80 of its rows", Priority.PG_STATISTIC)
    assert len(works) == 21
    assert len(plan(catalog, *some[:10])) == 10
    assert len(plan(replace(catalog, permitted=False), *some)) == 20


def test_nothing_is_promised_for_pg_statistic_that_analyze_does_not_do() -> None:
    catalog = table("pg_statistic", 2619, schema="pg_catalog", modified_rows=10**6)
    assert plan(catalog) == []
    assert only(catalog, mode="all").action == "vacuum"


def test_the_bigger_table_first_then_the_name() -> None:
    dead = part(dead_rows=9999)
    works = plan(
        table("b", heap=dead, total_pages=5), table("a", heap=dead, total_pages=5), table("c", heap=dead, total_pages=6)
    )
    assert [work.table.name.name for work in works] == ["c", "a", "b"]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("mode", ["needed", "all"])
def test_the_order_is_total_and_does_not_depend_on_the_order_of_what_was_read(seed: int, mode: rule.Mode) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    tables: list[Table] = []
    for number in range(60):
        parents = [made.oid for made in tables if made.kind == "p"]
        tables.append(
            table(
                f"t{dice.randrange(30)}",
                20_000 + number,
                schema=f"s{number}",
                kind=dice.choice("rrrrmp"),
                heap=part(
                    dead_rows=dice.choice([0, 10_000]),
                    inserted_rows=dice.choice([0, 10_000]),
                    xid_age=dice.choice([None, 10, 160_000_000]),
                ),
                toast=dice.choice([None, part(dead_rows=dice.choice([0, 10_000]))]),
                modified_rows=dice.choice([0, 10_000]),
                total_pages=dice.randrange(4),
                last_vacuum=dice.choice([None, NOW]),
                last_analyze=dice.choice([None, NOW]),
                parent_oid=dice.choice([None, *parents]),
                permitted=dice.random() > 0.1,
            )
        )
    for settings in (SETTINGS, OLD):
        first = rule.plan(tables, mode=mode, wanted=[], settings=settings)
        shuffled = tables[:]
        dice.shuffle(shuffled)
        assert rule.plan(shuffled, mode=mode, wanted=[], settings=settings) == first
        assert len({work.table.oid for work in first}) == len(first)
        assert [work.priority for work in first] == sorted(work.priority for work in first)
        assert all(work.action == "analyze" for work in first if work.table.kind == "p")
        if mode == "all":
            # Each table is analysed, by itself or through a parent.
            by_oid = {made.oid: made for made in tables}
            analysed = {work.table.oid for work in first if work.analyzes}
            for made in tables:
                above: Table | None = made
                while above is not None and above.oid not in analysed:
                    above = by_oid.get(above.parent_oid) if above.parent_oid is not None else None
                assert above is not None
            assert {work.table.oid for work in first if work.vacuums} == {
                made.oid for made in tables if made.kind != "p"
            }


def report(state: rule.State, *, name: str = "t", action: rule.Action = "vacuum", **changes: Any) -> Report:
    work = Work(table(name), action, "50,000 dead rows", Priority.DEAD_ROWS)
    made = Report(work, state, Figures(size_bytes=8192, dead_rows=50_000), Figures(size_bytes=4096, dead_rows=0))
    return replace(made, **changes)


def test_the_sentence_tells_what_was_done_and_what_was_not() -> None:
    reports = [
        report("done"),
        report("done", name="u", action="vacuum_analyze"),
        report("locked", name="messages"),
        report("failed", name="broken", error="XX001: invalid page"),
    ]
    assert rule.message(reports, tables=27, duration_s=3.21, check_mode=False, stopped=None) == (
        "Vacuumed 2 and analysed 1 of 27 tables in 3.2 s; 100,000 dead rows are now 0; "
        "1 table stayed locked: public.messages; 1 table failed: public.broken (XX001: invalid page)."
    )


def test_the_sentence_of_check_mode_and_of_an_idle_run() -> None:
    planned = [report("planned")]
    assert rule.message(planned, tables=2, duration_s=0, check_mode=True, stopped=None) == (
        "Would vacuum 1 and analyse 0 of 2 tables (8.0 KiB)."
    )
    assert rule.message([], tables=2, duration_s=0, check_mode=False, stopped=None) == (
        "Nothing to do: none of 2 tables needs vacuum or analyze."
    )


@pytest.mark.parametrize(
    ("reports", "status", "changed"),
    [
        ([], "ok", False),
        ([report("done")], "ok", True),
        ([report("gone")], "ok", False),
        ([report("done"), report("locked")], "breach", True),
        ([report("failed")], "breach", False),
        ([report("not_reached")], "breach", False),
        ([report("not_permitted")], "ok", False),
    ],
)
def test_work_left_undone_is_a_breach(reports: list[Report], status: str, changed: bool) -> None:
    result = rule.result(reports, tables=3, check_mode=False, stopped=None)
    assert (result["status"], result["changed"]) == (status, changed)


def test_a_table_that_autovacuum_should_have_frozen_is_a_breach_even_if_we_may_not() -> None:
    late = report("not_permitted")
    late.work = late.work._replace(overdue=True)
    assert rule.result([late], tables=1, check_mode=True, stopped=None)["status"] == "breach"


def test_a_catalog_that_only_a_superuser_may_vacuum_is_planned_when_it_is_overdue() -> None:
    """Dead rows in catalogs of the whole server are autovacuum's; runbook_maintain cannot act on them each week."""
    catalog = table("pg_database", 1262, schema="pg_catalog", heap=part(dead_rows=600), permitted=False)
    assert plan(replace(catalog, permitted=True)) != []
    assert plan(catalog) == plan(catalog, mode="all") == []
    overdue = only(replace(catalog, heap=part(xid_age=220_000_001)))
    assert Report(overdue, "not_permitted", Figures()).had_no_effect


def test_the_lease_that_a_dry_run_does_not_make_is_in_no_plan_for_its_rows() -> None:
    lease = table("lease", schema="runbook", heap=part(dead_rows=600), last_vacuum=None, last_analyze=None)
    assert plan(lease) == plan(lease, mode="all") == []
    assert only(replace(lease, heap=part(xid_age=150_000_000))).action == "freeze"


def test_an_unknown_figure_is_left_out_of_both_sums() -> None:
    reports = [report("done"), report("done", name="u", after=Figures())]
    result = rule.result(reports, tables=2, check_mode=False, stopped=None)
    assert (result["size_before_bytes"], result["size_after_bytes"]) == (8192, 4096)
    assert (result["dead_rows_before"], result["dead_rows_after"]) == (50_000, 0)
    nothing = rule.result([reports[1]], tables=1, check_mode=False, stopped=None)
    assert (nothing["size_before_bytes"], nothing["dead_rows_after"]) == (None, None)


def test_dead_rows_that_vacuum_had_to_leave_are_told() -> None:
    kept = report("done", after=Figures(dead_rows=50_000))
    assert rule.held_back([report("done"), kept], SETTINGS) == "50,000 dead rows could not be removed from public.t"
    assert rule.held_back([report("done")], SETTINGS) is None


@pytest.mark.parametrize(("age", "state"), [(149_999_999, "done"), (150_000_000, "failed"), (None, "done")])
def test_a_freeze_that_leaves_the_age_as_it_was_has_failed(age: int | None, state: str) -> None:
    frozen = report("done", action="freeze", after=Figures(xid_age=age))
    rule.judge([frozen], SETTINGS)
    assert frozen.state == state
    if state == "failed":
        assert frozen.error == "frozen, but its age is still 150,000,000"
        assert rule.held_back([frozen], SETTINGS) == "public.t could not be frozen"
