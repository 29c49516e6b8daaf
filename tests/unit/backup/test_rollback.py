"""Rules of a rollback: where to, by which way, what is refused, what is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import rollback as rules
from ansible.module_utils.runbook.rules.backup.proof import Found
from ansible.module_utils.runbook.rules.backup.swap import Connected, Database, Marker
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import Column, Content

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
POINT = NOW - timedelta(hours=3, minutes=12)


def request(**options: str) -> rules.Request:
    given = dict.fromkeys(("target_time", "backup", "before", "undo"), "")
    return rules.parse_request(**(given | options), now=NOW)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "none is set"),
        ({"backup": "latest", "before": POINT.isoformat()}, "backup and before: more than one is set"),
        ({"target_time": "yesterday"}, "target_time: 'yesterday' is no time"),
        ({"target_time": "2026-11-23T22:48:00"}, "write 2026-11-23T22:48:00Z"),
        ({"before": "2026-11-24T02:00:01Z"}, "lies in the future; the server's clock says 2026-11-24 02:00:00 UTC"),
    ],
)
def test_a_point_that_is_none_is_refused(options: dict[str, str], words: str):
    with pytest.raises(RunbookError) as caught:
        request(**options)
    assert words in caught.value.message


def test_the_present_moment_is_not_the_future_and_offsets_are_kept_apart():
    assert request(target_time=NOW.isoformat()).target_time == NOW
    assert request(target_time="2026-11-24T02:59:00+01:00").target_time == NOW - timedelta(minutes=1)


def test_the_way_follows_from_the_point_and_from_where_the_database_lives():
    at = {"target_time": POINT.isoformat()}
    assert rules.choose_method(request(backup="latest"), supabase=True, restore_path="") == "backup"
    assert rules.choose_method(request(undo="x"), supabase=True, restore_path="") == "undo"
    assert rules.choose_method(request(**at), supabase=True, restore_path="/srv") == "supabase"
    assert rules.choose_method(request(**at), supabase=False, restore_path="/srv") == "pitr"
    with pytest.raises(RunbookError, match="set db_rollback_restore_path, or take the last backup"):
        rules.choose_method(request(**at), supabase=False, restore_path="")


def test_only_the_very_name_lets_something_be_replaced():
    said = {"database": "app", "project_ref": "abc"}
    assert not rules.check_replace("", method="pitr", **said)
    assert rules.check_replace("app", method="pitr", **said)
    assert rules.check_replace("abc", method="supabase", **said)
    for method, typed in (("pitr", "abc"), ("supabase", "app"), ("backup", "true"), ("backup", "App")):
        with pytest.raises(RunbookError, match="was typed, and what would be replaced is"):
            rules.check_replace(typed, method=method, **said)  # type: ignore[arg-type] # texts of a table


# Plan -----------------------------------------------------------------------------------------------------------------

COPY = "app_pitr_2026-11-23T22-48-00Z"


def database(name: str, marker: Marker | None = None, *, is_mine: bool = True) -> Database:
    return Database(name, 1, "owner", is_mine, -1, str(marker) if marker else None, (), ())


def plan(
    *others: Database, method: Any = "pitr", name: str = "app", mine: bool = True, may_create: bool = True,
    is_superuser: bool = False, replaces: bool = False, **live: Any,
) -> rules.Plan:  # fmt: skip
    connected = Connected(name, "r", is_superuser, may_create, in_recovery=False)
    asked = request(undo=others[0].name) if method == "undo" else request(target_time=POINT.isoformat())
    there = {each.name: each for each in (replace(database(name, is_mine=mine), **live), *others)}
    return rules.plan(
        asked, method, there, connected, point=POINT, backup_id="", replaces=replaces,
        maintenance_db="postgres", restore_path="/srv",
    )  # fmt: skip


def test_a_copy_is_made_once_and_then_waits_for_its_swap():
    first = plan()
    assert first.replacement == COPY
    assert [step for step, todo in first.steps.items() if todo] == ["snapshot", "pitr", "compare", "integrity", "clean"]
    ready = plan(database(COPY, Marker("proven", "app", "t")))
    assert [step for step, todo in ready.steps.items() if todo] == ["compare", "integrity", "clean"]
    assert f"-e db_rollback_target_time={POINT.isoformat()} -e db_rollback_replace=app" in rules.next_step(ready)
    odd = plan(name="my app's")
    assert """-e '{"db_rollback_replace": "my app'"'"'s"}'""" in rules.next_step(odd)
    for state in ("restoring", "unproven", "failed"):
        assert not plan(database(COPY, Marker(state, "app", "t"))).is_ready
    other = database("app_rollback_2026-11-20T03-00-00Z", Marker("proven", "app", "t"))
    with pytest.raises(RunbookError, match="A rollback is pending: app_rollback_2026-11-20T03-00-00Z"):
        plan(other)
    for name, state, words in (
        (
            "app_rollback_2026-11-20T03-00-00Z",
            "proven",
            "-e db_rollback_backup=b -e db_rollback_replace=app, or drop it",
        ),
        ("app_pitr_2026-11-20T03-00-00.5Z", "proven", "-e db_rollback_target_time=2026-11-20T03:00:00.5Z -e"),
        ("app_pitr_2026-11-20T03-00-00Z", "unproven", 'not proven; drop it with DROP DATABASE "app_pitr'),
    ):
        with pytest.raises(RunbookError, match=words):
            plan(database(name, Marker(state, "app", "t", backup_id="b")))  # type: ignore[arg-type] # texts of a table
    # A copy that restore.yml made to look at is nobody's rollback, nor is one of another database.
    plan(database("app_restore_2026-11-20T03-00-00Z", Marker("proven", "app", "t")))
    plan(database("app_rollback_2026-11-20T03-00-00Z", Marker("proven", "billing", "t")))


@pytest.mark.parametrize("live", [{"subscriptions": 1}, {"prepared": ("waits",)}])
def test_a_database_that_cannot_be_renamed_is_refused_before_hours_of_copying(live: dict[str, Any]):
    with pytest.raises(RunbookError, match="login_db: 'app' has "):
        plan(replaces=True, **live)
    # A copy beside it is in nobody's way.
    assert not plan(**live).replaces


def test_what_was_swapped_in_is_not_done_again_and_can_be_undone():
    aside = database("app_before_x", Marker("previous", "app", "t", replaced_by=COPY))
    done = plan(aside)
    assert done.previous == "app_before_x"
    assert [step for step, todo in done.steps.items() if todo] == ["clean"]
    assert rules.next_step(done).endswith("-e db_rollback_undo=app_before_x")
    undo = plan(aside, method="undo")
    assert [step for step, todo in undo.steps.items() if todo] == ["compare", "swap", "clean"]
    stranger = database("app_copy", Marker("proven", "app", "t"))
    with pytest.raises(
        RunbookError, match="'app_copy' is no database that was swapped out for 'app'; these are: app_b"
    ):
        plan(stranger, aside, method="undo")


def test_who_cannot_swap_is_told_before_hours_of_work():
    with pytest.raises(RunbookError, match="the live database is 'postgres' itself"):
        plan(name="postgres")
    with pytest.raises(RunbookError, match="may not make or rename 'app', which 'owner' owns"):
        plan(mine=False)
    with pytest.raises(RunbookError, match="may not make or rename"):
        plan(may_create=False)
    assert plan(mine=False, may_create=False, is_superuser=True).method == "pitr"


def test_room_is_needed_in_both_places():
    enough = {"database_bytes": 100, "cluster_bytes": 300}
    assert rules.check_room(rules.Room(120, 300), **enough) == []
    assert rules.check_room(rules.Room(420, 420, is_shared=True), **enough) == []
    for room, words in (
        (rules.Room(119, 300), "the server keeps its data, 119 bytes are free and 120 are needed"),
        (rules.Room(120, 299), "db_rollback_restore_path lies, 299 bytes are free and 300 are needed"),
        (rules.Room(419, 419, is_shared=True), "419 bytes are free and 420 are needed"),
    ):
        with pytest.raises(RunbookError) as caught:
            rules.check_room(room, **enough)
        assert words in caught.value.message
    assert len(rules.check_room(rules.Room(None, None), **enough)) == 2


# Losses ---------------------------------------------------------------------------------------------------------------


def test_only_dated_columns_of_known_names_are_evidence():
    columns = [
        Column("created_at", "pg_catalog", "timestamptz"),
        Column("updated_at", "pg_catalog", "timestamp"),
        Column("modified_at", "pg_catalog", "text"),
        Column("expires_at", "pg_catalog", "timestamptz"),
        Column("changed_at", "app", "timestamptz"),
    ]
    found = rules.timestamp_columns(columns, rules.TIMESTAMP_COLUMNS)
    assert [each.name for each in found] == ["updated_at", "created_at"]


def losses(*counted: rules.Counted, then: set[str] | None = None) -> list[tuple[Any, ...]]:
    return [(each.newer_rows, each.evidence, each.at_least) for each in rules.judge_losses(counted, POINT, then)]


def test_commit_timestamps_are_complete_only_if_they_were_kept_at_the_point():
    early, late = POINT, POINT + timedelta(seconds=1)
    old = rules.Counted("old", 5, by_commit=0, oldest_commit=early)
    new = rules.Counted("new", 9, ("updated_at",), 2, 4, late)
    assert losses(old, new) == [(0, "commit_timestamp", False), (4, "commit_timestamp", False)]
    # Switched on after the point: rows from in between bear none.
    assert losses(new) == [(4, "commit_timestamp", True)]
    assert losses(rules.Counted("new", 9, ("updated_at",), 6, 4, late)) == [(6, "column", True)]
    assert losses(rules.Counted("new", 9, (), None, 0, None)) == [(None, "none", False)]


def test_what_is_not_known_is_never_nothing():
    assert losses(rules.Counted("t", 3)) == [(None, "none", False)]
    assert losses(rules.Counted("t", 0)) == [(0, "none", False)]
    assert losses(rules.Counted("t", 3, ("updated_at",), 0)) == [(0, "column", True)]
    assert losses(rules.Counted("t", None, error="another session keeps it locked")) == [(None, "none", False)]
    assert losses(rules.Counted("t", 3, ("updated_at",), 1), then=set()) == [(3, "backup", False)]
    assert losses(rules.Counted("t", None, error="locked"), then=set()) == [(None, "none", False)]


def test_the_sentence_says_how_sure_it_is():
    def said(*counted: rules.Counted) -> str:
        return rules.loss_sentence(rules.judge_losses(counted, POINT, None))

    exact = rules.Counted("a", 9, by_commit=4, oldest_commit=POINT)
    assert said(exact) == "4 rows were written after that point (a 4)."
    assert said(exact, rules.Counted("b", 1)) == (
        "At least 4 rows were written after that point (a 4); of 1 of 2 tables it is not known."
    )
    assert said(rules.Counted("b", 1)).startswith("No row is known to have been written")
    assert said(rules.Counted("a", 9, by_commit=0, oldest_commit=POINT)) == "No row was written after that point."
    assert said(rules.Counted("a", 9, ("updated_at",), 0)).startswith("As far as columns say, no row")


# Live and copy ------------------------------------------------------------------------------------------------------


def found(errors: dict[str, str] | None = None, large: Content | None = None, **tables: Content) -> Found:
    names = {QualifiedName("public", name): content for name, content in tables.items()}
    return Found(
        names | {QualifiedName("runbook", "lease"): Content(len(tables), str(id(names)))},
        {QualifiedName("public", name): why for name, why in (errors or {}).items()},
        large or Content(0, "0"), "", "m", "p",
    )  # fmt: skip


def test_every_table_of_either_is_compared_and_the_lease_is_none():
    live = found(same=Content(1, "7"), other=Content(2, "8"), fewer=Content(3, "9"), new=Content(4, "1"))
    copy = found({"torn": "no page"}, same=Content(1, "7"), other=Content(2, "9"), fewer=Content(5, "9"),
                 gone=Content(6, "2"))  # fmt: skip
    result = rules.differences(live, copy)
    assert {each.table: each.status for each in result} == {
        "public.same": "equal", "public.other": "differs", "public.fewer": "differs", "public.new": "only_live",
        "public.gone": "only_copy", "public.torn": "unknown",
    }  # fmt: skip
    text = rules.difference_sentence(result, "copy")
    assert text.startswith("4 of 6 comparisons between the live database and copy differ: public.fewer (3 rows now, 5")
    assert text.endswith("Not known of 1: public.torn: no page.")


def test_large_objects_are_compared_too():
    (large,) = rules.differences(found(large=Content(2, "1")), found())
    assert (large.table, large.status, large.live_rows) == ("large objects", "differs", 2)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (90_060, "1 d 1 h 1 min")])
def test_spans_of_time(seconds: int, text: str):
    assert rules.duration(seconds) == text


def test_a_folder_belongs_to_one_cluster_and_database():
    folder = rules.restore_folder("/srv/r/", system_identifier="7", database="../x")
    assert folder == "/srv/r/rollback-7-..%2Fx"
    assert rules.restore_folder("", system_identifier="7", database="x") == ""
    assert (rules.copies_prefix(""), rules.copies_prefix("/a/b/")) == ("rollback", "a/b/rollback")


def test_only_the_restored_server_is_taken_for_it():
    meant = {"data_dir": "/srv/r/data", "target_time": "2026-11-23T23:48:00+01:00"}
    rules.check_restored(rules.Restored("/srv/r/data", POINT.isoformat()), **meant)
    later = (POINT + timedelta(microseconds=1)).isoformat()
    for found in (
        ("/var/lib/pg", POINT.isoformat()),
        ("/srv/r/data", later),
        ("/srv/r/data", ""),
        ("/srv/r/data", "x"),
    ):
        with pytest.raises(RunbookError, match="leave out -e db_login_host and db_login_port"):
            rules.check_restored(rules.Restored(*found), **meant)
    with pytest.raises(RunbookError, match="data_dir and target_time"):
        rules.check_restored(rules.Restored("", POINT.isoformat()), data_dir="", target_time=POINT.isoformat())


def test_a_moment_is_in_the_archive_when_a_later_segment_is():
    assert rules.is_archived(POINT, POINT + timedelta(seconds=1))
    assert not rules.is_archived(POINT, POINT)
    assert not rules.is_archived(POINT, None)


def test_a_copy_never_goes_among_the_backups():
    rules.check_copies_prefix("rollback")
    rules.check_copies_prefix("a/rollback")
    for prefix in ("", "a", "a/rollback/b", "a-rollback"):
        with pytest.raises(RunbookError, match="among the backups"):
            rules.check_copies_prefix(prefix)
