"""Rules of pg_compact: which table, which way, in which order, and what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.postgres.compact import clean_up_statements, repack_words
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import sections
from ansible.module_utils.runbook.report.sections import bloat as of_month
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import compact as rule
from ansible.module_utils.runbook.rules.postgres.bloat import PAGE_BYTES, Bloat, Relation

MIB = 1 << 20
NOW = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


def bloat(size: int | None, expected: int | None, *, oid: int = 1, kind: str = "r") -> Bloat:
    relation = Relation(oid, QualifiedName("public", f"t{oid}"), kind, "heap", size, 1, 1, 0, True, None)
    return Bloat(
        relation,
        "estimated" if expected is not None else "none",
        expected,
        fix="" if expected is not None else "right",
    )


def table(oid: int = 1, size: int = 100 * MIB, expected: int | None = 50 * MIB, **changed: Any) -> rule.Table:
    given: dict[str, Any] = {
        "oid": oid, "name": QualifiedName("public", f"t{oid}"), "heap": bloat(size, expected, oid=oid), "toast": None,
        "index_bytes": 20 * MIB, "expected_index_bytes": 10 * MIB, "is_ordinary": True, "has_key": True,
        "owner": "app", "is_owner": True, "permitted": True,
    }  # fmt: skip
    return rule.Table(**(given | changed))


def ways(**changed: Any) -> rule.Ways:
    given: dict[str, Any] = {
        "repack": "1.5.2", "repack_refusal": None, "repack_needs_superuser": False, "is_superuser": True,
        "outage_s": None,
    }  # fmt: skip
    return rule.Ways(**(given | changed))


NO_REPACK: dict[str, Any] = {"repack": None, "repack_refusal": "there is no program pg_repack on this machine"}


def plan(*tables: rule.Table, sample: rule.Sample | None = None, **changed: Any) -> list[rule.Report]:
    limits: dict[str, Any] = {
        "min_bloat_percent": 30, "deadline_s": 3600, "free_bytes": 1 << 40, "database_bytes": 1 << 30,
    }  # fmt: skip
    leftovers = changed.pop("leftovers", [])
    limits |= {key: changed.pop(key) for key in list(changed) if key in limits}
    samples = {one.oid: sample or rule.Sample(100 * MIB) for one in tables}
    return rule.plan(tables, samples, leftovers, ways(**changed), **limits)


def way(one: rule.Table, **changed: Any) -> tuple[str, str]:
    (report,) = plan(one, **changed)
    return report.action, report.state


def test_the_limits_themselves_count() -> None:
    exactly, below = table(1, 100 * MIB, 70 * MIB), table(2, 100 * MIB, 71 * MIB)
    small, unknown = table(3, 10 * MIB - 1, 0), table(4, expected=None)
    limits = {"min_bloat_percent": 30, "min_size_bytes": 10 * MIB}
    assert rule.needed([exactly, below, small, unknown], **limits) == [exactly]
    assert rule.candidates([exactly, below, small, unknown], **limits) == [exactly, unknown]
    assert rule.needed([table(5, 10 * MIB, 0), exactly], **limits) == [table(5, 10 * MIB, 0), exactly]


def test_toast_counts_even_where_the_table_itself_is_unknown() -> None:
    one = table(1, 10 * MIB, None, toast=bloat(90 * MIB, 10 * MIB, oid=2, kind="t"))
    assert one.size_bytes == 100 * MIB
    assert one.bloat_bytes == 80 * MIB
    assert one.bloat_percent() == 80
    assert table(1, expected=None).bloat_percent() is None
    assert table(1, 0, 0).bloat_percent() == 0


@pytest.mark.parametrize(
    ("changed", "given", "found"),
    [
        ({}, {}, ("pg_repack", "planned")),
        ({"has_key": False}, {}, ("none", "no_key")),
        ({"has_key": False}, {"outage_s": 3600}, ("vacuum_full", "planned")),
        ({"is_ordinary": False}, {}, ("none", "needs_outage")),
        ({"is_ordinary": False}, {"outage_s": 3600}, ("vacuum_full", "planned")),
        ({"permitted": False}, {"outage_s": 3600}, ("none", "not_permitted")),
        ({}, NO_REPACK, ("none", "needs_outage")),
        ({}, NO_REPACK | {"outage_s": 3600}, ("vacuum_full", "planned")),
        ({}, {"repack_needs_superuser": True, "is_superuser": False}, ("none", "needs_outage")),
        ({}, {"is_superuser": False}, ("pg_repack", "planned")),
        ({"is_owner": False}, {"is_superuser": False}, ("none", "needs_outage")),
    ],
)
def test_the_way(changed: dict[str, Any], given: dict[str, Any], found: tuple[str, str]) -> None:
    assert way(table(**changed), **given) == found


def test_what_cannot_be_done_says_why() -> None:
    (report,) = plan(table(), **NO_REPACK)
    assert report.error == (
        "there is no program pg_repack on this machine; or allow VACUUM FULL with allow_exclusive_lock and "
        "maintenance_until"
    )
    (report,) = plan(table(), repack="1.4.8", repack_needs_superuser=True, is_superuser=False)
    assert str(report.error).startswith("pg_repack 1.4.8 works for superusers only; install 1.5.2 or newer")


def test_an_empty_end_is_given_back_where_that_is_enough() -> None:
    # 100 MiB, of which 50 are bloat: with 30 MiB less, 20 of 70 are (28.6 %); with 28 less, 22 of 72 (30.6 %).
    assert way(table(), sample=rule.Sample(1, 30 * MIB)) == ("truncate", "planned")
    assert way(table(), sample=rule.Sample(100 * MIB, 28 * MIB)) == ("pg_repack", "planned")
    # Where there is no other way, it is better than nothing.
    assert way(table(), sample=rule.Sample(1, 28 * MIB), **NO_REPACK) == ("truncate", "planned")
    assert way(table(permitted=False), sample=rule.Sample(1, 30 * MIB)) == ("none", "not_permitted")


def test_vacuum_gives_an_end_back_from_a_thousand_pages_or_a_sixteenth_on() -> None:
    page = PAGE_BYTES
    assert rule.worth_truncating(1 << 40, 1000 * page)
    assert not rule.worth_truncating(1 << 40, 999 * page)
    assert rule.worth_truncating(160 * page, 10 * page)
    assert not rule.worth_truncating(160 * page, 9 * page)
    assert not rule.worth_truncating(0, 0)


def test_disk() -> None:
    # 50 MiB of copy, and twice 20 MiB of indexes.
    assert way(table(), free_bytes=90 * MIB) == ("pg_repack", "planned")
    assert way(table(), free_bytes=90 * MIB - 1) == ("pg_repack", "no_space")
    assert way(table(), free_bytes=None) == ("pg_repack", "planned")
    big = table(size=4096 * MIB, expected=1024 * MIB, index_bytes=1)
    assert way(big, free_bytes=None, database_bytes=None) == ("pg_repack", "no_space")
    assert way(big, free_bytes=None, database_bytes=20 << 30) == ("pg_repack", "planned")
    # Giving back an end needs none.
    assert way(table(), sample=rule.Sample(1, 30 * MIB), free_bytes=0) == ("truncate", "planned")


def test_time() -> None:
    # 100 MiB read, twice 50 written, twice 10 of indexes: 220 MiB.
    sample = rule.Sample(10 * MIB)
    assert rule.estimate_s(table(), sample, online=False) == 22.0
    assert rule.estimate_s(table(), sample, online=True) == 44.0
    assert rule.estimate_s(table(), rule.Sample(None), online=False) == 11.0
    assert way(table(), sample=sample, deadline_s=44) == ("pg_repack", "planned")
    assert way(table(), sample=sample, deadline_s=43) == ("pg_repack", "not_reached")
    assert way(table(), sample=sample, outage_s=22, **NO_REPACK) == ("vacuum_full", "planned")
    (late,) = plan(table(), sample=sample, outage_s=21, **NO_REPACK)
    assert late.state == "not_reached"
    assert late.error == "would take about 22 s, and maintenance_until leaves 21 s"
    (report,) = plan(table(), sample=sample)
    assert rule.fits(report, left_s=44, pace=1)
    assert not rule.fits(report, left_s=44, pace=1.1)
    assert not rule.fits(report, left_s=0, pace=1)


def test_order() -> None:
    killed = rule.Leftover(99, None, ("type repack.pk_99",), is_owner=True)
    foreign = rule.Leftover(7, QualifiedName("public", "t7"), ("trigger repack_trigger",), is_owner=False)
    big, small = table(1, 200 * MIB, 20 * MIB), table(2, 100 * MIB, 10 * MIB)
    needed = rule.needed([big, small], min_bloat_percent=30, min_size_bytes=0)
    samples = {1: rule.Sample(100 * MIB, 175 * MIB), 2: rule.Sample(100 * MIB)}
    reports = rule.plan(
        needed, samples, [killed, foreign], ways(), min_bloat_percent=30, deadline_s=60, free_bytes=1 << 40,
        database_bytes=None,
    )  # fmt: skip
    assert [(report.label, report.action, report.state) for report in reports] == [
        ("public.t7", "clean_up", "not_permitted"),
        ("table 99, which was dropped", "clean_up", "planned"),
        ("public.t1", "truncate", "planned"),
        ("public.t2", "pg_repack", "planned"),
    ]


def test_an_outage_needs_both_and_a_moment_to_come() -> None:
    until = (NOW + timedelta(hours=1)).isoformat()
    assert rule.outage(allow=False, until=None, now=NOW) is None
    assert rule.outage(allow=True, until=until, now=NOW) == 3600
    assert rule.outage(allow=True, until="2026-11-01T03:00:00Z", now=NOW) == 3600
    assert rule.outage(allow=True, until="2026-11-01T03:00:00+01:00", now=NOW - timedelta(hours=1)) == 3600
    for allow, moment in ((True, None), (True, ""), (False, until), (True, "now"), (True, "2026-11-01T03:00:00"),
                          (True, NOW.isoformat())):  # fmt: skip
        with pytest.raises(RunbookError, match="maintenance_until"):
            rule.outage(allow=allow, until=moment, now=NOW)


@pytest.mark.parametrize(
    ("state", "status"),
    [("locked", "breach"), ("failed", "breach"), ("no_space", "breach"), ("not_reached", "breach"), ("gone", "ok"),
     ("no_key", "ok"), ("needs_outage", "ok"), ("not_permitted", "ok"), ("done", "ok")],
)  # fmt: skip
def test_what_another_run_could_do_is_a_breach(state: Any, status: str) -> None:
    (report,) = plan(table())
    report.state, report.error = state, "because"
    summary = rule.Summary([report], 5, check_mode=False)
    result = summary.result()
    assert result["status"] == status
    assert result["changed"] is (state == "done")
    if state != "done":
        assert "public.t1 (because)" in summary.message(result | {"duration_s": 1.0})


def test_messages() -> None:
    (report,) = plan(table())
    planned = rule.Summary([report], 5, check_mode=True)
    assert planned.message(planned.result() | {"duration_s": 1.0}) == "Would compact 1 of 5 tables (120 MiB)."
    assert rule.describe([report]) == (
        "pg_repack public.t1: 50.0 % of 100 MiB is bloat (estimated, limit 30 %), about 5 s\n"
    )
    report.state, report.size_after_bytes = "done", 60 * MIB
    done = rule.Summary([report], 5, check_mode=False, stopped="the deadline does not leave enough time")
    assert done.message(done.result() | {"duration_s": 2.5}) == (
        "Compacted 1 of 5 tables in 2.5 s; 120 MiB are now 60.0 MiB; stopped: the deadline does not leave enough time."
    )
    assert done.result()["status"] == "breach"
    nothing = rule.Summary([], 5, check_mode=False)
    assert nothing.message(nothing.result()) == "Nothing to do: none of 5 tables needs to be compacted."


def test_pg_repack_is_told_a_name_as_a_server_reads_it() -> None:
    (report,) = plan(table(name=QualifiedName('o"dd', "t; DROP")))
    words = repack_words(report, lock_timeout_ms=1001, jobs=1, superuser=False)
    assert words == [
        "pg_repack", "--no-order", "--no-kill-backend", "--wait-timeout=2", "--no-superuser-check", "--no-password",
        '--table="o""dd"."t; DROP"',
    ]  # fmt: skip


def test_the_trigger_goes_first() -> None:
    objects = ("trigger repack_trigger", "table repack.log_5", "table repack.table_5", "type repack.pk_5")
    statements = clean_up_statements(rule.Leftover(5, QualifiedName("public", "t5"), objects, is_owner=True))
    kinds = [repr(one).split("SQL('")[1].split(" IF")[0] for one in statements]
    assert kinds == ["DROP TRIGGER", "DROP TABLE", "DROP TABLE", "DROP TYPE"]


# --- in the report ----------------------------------------------------------------------------------------------------


def step(module: str, **figures: Any) -> dict[str, Any]:
    return {"module": module, "figures": figures}


def snapshot(total: int | None, **tables: int) -> dict[str, Any]:
    return step(
        "pg_bloat_info", bloat_bytes=total, bloat_percent=10.0,
        tables=[{"table": name, "bloat_bytes": value} for name, value in tables.items()],
    )  # fmt: skip


def test_the_report_compares_the_first_and_the_last_snapshot() -> None:
    compacted = step(
        "pg_compact", size_before_bytes=100, size_after_bytes=40,
        tables=[
            {"table": "a", "state": "done", "action": "pg_repack", "size_before_bytes": 100, "size_after_bytes": 40},
            {"table": "b", "state": "locked", "action": "pg_repack", "error": "held by <1>"},
        ],
    )  # fmt: skip
    rebuilt = step("pg_reindex", size_before_bytes=50, size_after_bytes=20, indexes=[{"index": "i", "state": "done"}])
    steps = [snapshot(90, a=60, b=30), compacted, rebuilt, snapshot(20, b=20)]
    (shown,) = of_month.panels(steps)
    assert [(row["title"], row["before_text"], row["after_text"]) for row in shown.charts[0].drawn] == [
        ("a", "60 B", "0 B"), ("b", "30 B", "20 B"),
    ]  # fmt: skip
    assert ("Bloat", "90 B → 20 B") in shown.grid
    assert [(row[0], row[3]) for row in shown.tables[0].rows] == [("a", "done"), ("b", "locked"), ("i", "done")]
    totals = sections.totals([one | {"status": "ok"} for one in steps])
    assert {key: totals[key] for key in ("bloat_before_bytes", "bloat_after_bytes", "freed_bytes")} == {
        "bloat_before_bytes": 90, "bloat_after_bytes": 20, "freed_bytes": 90,
    }  # fmt: skip
    assert of_month.headline({"totals": totals}) == [("Bloat", "90 B → 20 B"), ("Space given back", "90 B")]


def test_bloat_that_is_unknown_is_never_nothing() -> None:
    totals = sections.totals([snapshot(None) | {"status": "ok"}, snapshot(5) | {"status": "ok"}])
    assert totals == {"bloat_after_bytes": 5}
    (shown,) = of_month.panels([snapshot(None)])
    assert ("Bloat", "–") in shown.grid
