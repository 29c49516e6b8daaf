"""Which backup, into which server, and what a program's words mean; and who may take whose name."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import restore, swap
from ansible.module_utils.runbook.rules.backup.manifest import Extension, Object
from manifest_samples import manifest

NAMES = ["2026-11-21T03-00-00Z", "2026-11-22T03-00-00Z", "2026-11-23T03-00-00Z", "not-a-backup"]
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


# Which backup ---------------------------------------------------------------------------------------------------------


def test_the_latest_comes_first():
    assert restore.candidates(NAMES, backup="latest", before=None) == NAMES[2::-1]


def test_before_means_strictly_before():
    before = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    assert restore.candidates(NAMES, backup="latest", before=before) == NAMES[:1]


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        ([], {}, "there is none of this database"),
        (NAMES, {"backup": "2026-11-20T03-00-00Z"}, "there is no 2026-11-20"),
        (NAMES, {"backup": "yesterday"}, "names no backup"),
        (NAMES, {"backup": NAMES[0], "before": NOW}, "both are set"),
        (NAMES, {"before": datetime(2026, 1, 1, tzinfo=UTC)}, "no backup began before 2026-01-01"),
    ],
)
def test_a_backup_that_is_not_there(names, options, words):
    with pytest.raises(RunbookError, match=words):
        restore.candidates(names, **({"backup": "latest", "before": None} | options))


def test_what_is_not_complete_is_skipped_with_a_warning():
    made = manifest()
    home = "production/app/"
    there = {f"{home}{made.backup_id}/": made.to_bytes()}
    warnings: list[str] = []
    newer = ["2026-11-24T03-00-00Z", "2026-11-25T03-00-00Z"]

    def choose(*names: str, **options: Any) -> restore.Found:
        asked: dict[str, Any] = {"database": "app", "backup": "latest", "before": None, "clusters": frozenset()}
        backups: Any = SimpleNamespace(home=home, names=lambda: names, manifest=there.get, url="s3://b/{}".format)
        return restore.choose(restore.Wanted(**asked | options), backups, warn=warnings.append)

    found = choose(made.backup_id, *newer)
    assert (found.manifest, found.folder) == (made, f"{home}{made.backup_id}/")
    assert found.sha256 in made.to_bytes().decode()
    assert [each.partition(" ")[0] for each in warnings] == [f"s3://b/{home}{name}/" for name in reversed(newer)]
    with pytest.raises(RunbookError, match="none of 2 in s3://b/production/app/ that could be meant is complete"):
        choose(*newer)
    with pytest.raises(RunbookError, match="is of cluster"):
        choose(made.backup_id, clusters=frozenset({"another"}))


def test_a_manifest_of_another_database_or_place_is_refused():
    folder = "production/app/2026-11-23T03-00-00Z/"
    good = manifest()
    restore.check_manifest(good, folder=folder, database="app", backup_id=good.backup_id)
    with pytest.raises(RunbookError, match="foreign backup"):
        restore.check_manifest(good, folder=folder, database="other", backup_id=good.backup_id)
    with pytest.raises(RunbookError, match="is that of 2026-11-23"):
        restore.check_manifest(good, folder=folder, database="app", backup_id="2026-11-22T03-00-00Z")
    with pytest.raises(RunbookError, match="elsewhere"):
        restore.check_manifest(good, folder="elsewhere/", database="app", backup_id=good.backup_id)


def test_objects_are_missing_or_of_another_size():
    good = manifest()
    keys = [each.key for each in good.objects]
    assert restore.wrong_objects(good, {keys[0]: 10, keys[1]: 20}) == []
    assert [text.split("/")[-1] for text in restore.wrong_objects(good, {keys[0]: 11, keys[1]: None})] == [
        "schema.dump.zst has 11 bytes instead of 10",
        "data-00.dump.zst is missing",
    ]


# Into which server ----------------------------------------------------------------------------------------------------


def server(**changes: Any) -> restore.Server:
    """A server that can take the backup."""
    said: dict[str, Any] = {
        "version": 150004,
        "in_recovery": False,
        "role": "postgres",
        "is_superuser": True,
        "may_create": True,
        "databases": {"app": None, "postgres": None},
        "roles": {"app", "postgres"},
        "extensions": {"plpgsql": "1.0"},
        "locales": {"C", "en_US.utf8"},
        "has_icu": False,
        "free_bytes": 1200,
    }
    return restore.Server(**(said | changes))


def planned(
    *,
    of: Any = None,
    leftovers: Any = (),
    busy: Any = (),
    without: Any = (),
    scratch: bool = False,
    is_named: bool = False,
    **changes: Any,
) -> restore.Plan:
    """The plan for a server that is changed in some way."""
    return restore.plan(
        of or manifest(), server(**changes), folder="f/", target="app_restore", leftovers=leftovers, busy=busy,
        without_extensions=without, scratch=scratch, is_named=is_named,
    )  # fmt: skip


def test_an_extension_that_is_tied_to_one_database_is_left_out_of_a_proof_or_if_somebody_says_so():
    of = manifest(extensions=(Extension("pg_cron", "1.6", "pg_catalog"),))
    with pytest.raises(RunbookError, match=r"pg_cron 1\.6 is not installed"):
        planned(of=of)
    assert planned(of=of, scratch=True).without == ("pg_cron",)
    assert planned(of=of, without=["pg_cron"]).without == ("pg_cron",)
    assert planned(of=of, extensions={"pg_cron": "1.6"}).without == ()
    with pytest.raises(RunbookError, match="without_extensions: citext cannot be left out"):
        planned(of=of, without=["citext"])


def test_a_server_that_has_everything():
    plan = planned()
    assert plan.target == "app_restore"
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_recovery": True}, "standby"),
        ({"is_superuser": False, "may_create": False}, "CREATEDB"),
        ({"version": 140009}, "made from PostgreSQL 15 and this server is 14"),
        ({"roles": {"postgres"}}, "the role app is missing; create it first"),
        ({"free_bytes": 999}, "only 999 B are free"),
    ],
)
def test_what_is_missing_is_said(changes, words):
    with pytest.raises(RunbookError, match="cannot be restored here") as caught:
        planned(**changes)
    assert words in caught.value.message


def test_everything_that_is_missing_is_said_at_once():
    wanted = manifest(extensions=(Extension("postgis", "3.4", "public"), Extension("plpgsql", "1.1", "pg_catalog")))
    with pytest.raises(RunbookError) as caught:
        planned(of=wanted, roles=set())
    assert len(caught.value.context["problems"]) == 3  # type: ignore[arg-type] # a list of sentences


def test_icu_needs_a_server_with_icu():
    source = replace(manifest().source, locale_provider="icu", icu_locale="de")
    with pytest.raises(RunbookError, match="without ICU"):
        planned(of=manifest(source=source))
    assert planned(of=manifest(source=source), has_icu=True)


def test_what_is_not_known_is_a_warning():
    source = replace(manifest().source, collate="de_DE.UTF-8")
    plan = planned(of=manifest(source=source), free_bytes=None)
    assert len(plan.warnings) == 2
    assert "de_DE.UTF-8" in plan.warnings[0]
    assert "unknown" in plan.warnings[1]
    assert "hardly more" in planned(free_bytes=1100).warnings[0]


def marked(state: swap.State, **more: str) -> str:
    """The comment of a database in that state."""
    said = {"database": "app", "at": "2026-11-23T04:00:00Z", "backup_id": manifest().backup_id}
    return str(swap.Marker(state, **(said | more)))


def test_a_database_that_exists_is_never_overwritten():
    for comment in (None, "Somebody's", marked("failed"), marked("unproven"), marked("previous")):
        with pytest.raises(RunbookError, match="never overwritten"):
            planned(databases={"app_restore": comment})
    with pytest.raises(RunbookError, match="never overwritten"):
        planned(databases={"app_restore": marked("proven", backup_id="2026-11-22T03-00-00Z")})
    # To drop it would end the other run's restore.
    with pytest.raises(RunbookError, match="another run; wait until that has ended"):
        planned(databases={"app_restore": marked("restoring")}, busy={"app_restore"})


def test_what_was_done_before_is_not_done_again():
    assert planned(databases={"app_restore": marked("proven")}).done_at == "2026-11-23T04:00:00Z"


def test_what_was_done_under_another_name_is_found_unless_this_name_was_asked_for():
    databases = {"app_restore": marked("restoring"), "app_restore_2": marked("proven")}
    assert planned(databases=databases, leftovers=["app_restore"]).target == "app_restore_2"
    asked = planned(databases=databases, leftovers=["app_restore"], is_named=True)
    assert (asked.target, asked.done_at) == ("app_restore", None)


def test_another_name_fits_into_what_postgresql_takes():
    for name in restore.alternatives("ä" * 31 + "b"):
        assert len(name.encode()) <= 63
    assert restore.Making.read("runbook_making_2026-11-23T03-00-00Z_x") is None


def test_what_a_killed_run_left_is_dropped_first():
    plan = planned(databases={"app_restore": marked("restoring")}, leftovers=["app_restore"])
    assert plan.leftovers == ("app_restore",)
    assert plan.done_at is None


def test_names_fit_into_postgresqls_63_bytes():
    long = "ü" * 31
    name = restore.target_name(None, database=long, backup_id=NAMES[0])
    assert len(name.encode()) <= 63
    assert name.endswith(f"ü_restore_{NAMES[0]}")
    assert restore.target_name("mine", database=long, backup_id=NAMES[0]) == "mine"
    with pytest.raises(RunbookError, match="63 bytes"):
        restore.target_name("x" * 64, database=long, backup_id=NAMES[0])


# Programs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "dumped_by", "on", "chosen"),
    [
        ({"a": 15, "b": 18}, 15, 15, "a"),
        ({"a": 15, "b": 18}, 16, 15, "b"),
        ({"a": 16, "b": 17, "c": 18}, 15, 15, "a"),
        ({"a": 15, "b": 18}, 15, 18, "b"),
    ],
)
def test_the_client_that_fits_best(found, dumped_by, on, chosen):
    assert restore.choose_client(found, dumped_by=dumped_by, server=on) == chosen


@pytest.mark.parametrize("found", [{}, {"a": 15}])
def test_no_client_is_new_enough(found):
    with pytest.raises(RunbookError, match="made by pg_dump 16"):
        restore.choose_client(found, dumped_by=16, server=16)


HARMLESS = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
)


def test_of_a_programs_words_no_row_is_kept():
    lines = [
        HARMLESS,
        "Command was: SET transaction_timeout = 0;",
        'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "canary"',
        "CONTEXT:  COPY t, line 1, column a: canary",
        "pg_restore: warning: errors ignored on restore: 2",
    ]
    said = restore.said_errors(lines)
    assert said == ['COPY failed for table "t": ERROR: invalid input syntax for type integer']
    assert "canary" not in restore.explain(lines, step="the data", target="x")


def test_a_program_that_only_met_the_harmless_error():
    assert restore.said_errors([HARMLESS, "Command was: SET transaction_timeout = 0;"]) == []


# The swap -------------------------------------------------------------------------------------------------------------


def database(name: str, **changes: Any) -> swap.Database:
    """A database without anything in its way."""
    said: dict[str, Any] = {
        "oid": 1, "owner": "app", "is_mine": True, "connection_limit": -1, "comment": None, "grants": (),
        "settings": (),
    }  # fmt: skip
    return swap.Database(name=name, **(said | changes))


US = swap.Connected("postgres", "postgres", is_superuser=True, may_create=True, in_recovery=False)


def swapped(
    live: Any = None, new: Any = None, us: swap.Connected = US, named: str = "app", replacement: str = "app_restore"
) -> swap.Plan:
    """The plan for two databases that are changed in some way."""
    both = {
        "app": database("app", **(live or {})),
        "app_restore": database("app_restore", **({"comment": marked("proven")} | (new or {}))),
    }
    return swap.plan(both, us, live=named, replacement=replacement, now=NOW)


def test_names_of_a_swap():
    plan = swapped()
    assert (plan.live.name, plan.replacement.name) == ("app", "app_restore")
    assert plan.previous_name == "app_before_2026-11-23T12-00-00Z"
    assert swapped(new={"comment": marked("previous")}).replacement.name == "app_restore"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replacement": "app"}, "itself"),
        ({"replacement": "nowhere"}, "there is no database 'nowhere'"),
        ({"named": "gone"}, "there is no database 'gone'"),
        ({"us": replace(US, database="app")}, "Supabase"),
        ({"us": replace(US, in_recovery=True)}, "standby"),
        ({"us": replace(US, is_superuser=False, may_create=False)}, "may not rename"),
        ({"live": {"is_mine": False}}, "may not rename 'app'"),
        ({"live": {"prepared": ("tx",)}}, "COMMIT PREPARED"),
        (
            {"live": {"settings": (swap.Setting(None, "a.b", "c"),), "forbidden": ("a.b",)}},
            "may not set a.b, which 'app' carries .* GRANT SET ON PARAMETER a.b",
        ),
        ({"live": {"subscriptions": 1}}, "ALTER SUBSCRIPTION"),
        ({"new": {"comment": None}}, "bears no mark"),
        ({"new": {"comment": "runbook, proven: {}"}}, "bears no mark"),
        ({"new": {"comment": marked("restoring")}}, "is restoring, not proven"),
        ({"new": {"comment": marked("failed")}}, "is failed, not proven"),
        ({"new": {"comment": marked("unproven")}}, "is unproven, not proven"),
        ({"new": {"comment": marked("proven", database="other")}}, "copy of 'other'"),
        ({"new": {"comment": marked("proven", without="public.a, pg_cron")}}, "rows of public.a and extension pg_cron"),
    ],
)
def test_what_must_not_be_swapped(changes, words):
    with pytest.raises(RunbookError, match=words):
        swapped(**changes)


def test_the_mark_of_an_earlier_version_is_read():
    said = str(swap.Marker("proven", "app", "t", "r", "b")).replace(', "without": ""', "")
    assert "without" not in said
    assert swap.Marker.read(said) == swap.Marker("proven", "app", "t", "r", "b")
    assert swap.Marker.read(said.replace('"at": "t", ', "")) is None


def test_a_swap_that_was_done_is_known():
    aside = database("app_before", comment=marked("previous", replaced_by="app_restore"))
    databases = {"app": database("app"), "app_before": aside}
    assert swap.done_before(databases, "app", "app_restore") == "app_before"
    assert swap.done_before(databases | {"app_restore": database("x")}, "app", "app_restore") is None
    assert swap.done_before(databases, "app", "another") is None


@pytest.mark.parametrize(
    ("name", "value", "literals"),
    [
        ("work_mem", "7MB", ["7MB"]),
        ("search_path", "", [""]),
        ("search_path", "public", ["public"]),
        ("Search_Path", '"$user", public', ["$user", "public"]),
        ("search_path", '"a ""b"", c",d', ['a "b", c', "d"]),
        ("app.names", "a, b", ["a, b"]),
    ],
)
def test_a_settings_literals(name, value, literals):
    assert swap.setting_values(name, value) == literals


def test_a_globals_object_is_named_where_roles_are_missing():
    good = manifest()
    folder = "production/app/2026-11-23T03-00-00Z/"
    with_globals = manifest(objects=(*good.objects, Object(folder + "globals.sql.zst", "globals", 0, 0, 1, "2", None)))
    with pytest.raises(RunbookError, match=r"globals\.sql\.zst"):
        planned(of=with_globals, roles=set())


def test_copies_that_failed_their_proof_go_after_a_week_and_no_others():
    now = datetime(2026, 11, 23, 3, tzinfo=UTC)
    old, young = "2026-11-15T03:00:00Z", "2026-11-17T03:00:00Z"
    databases = {
        "app_failed_a": str(swap.Marker("failed", "app", old, backup_id="a")),
        "app_failed_b": str(swap.Marker("failed", "app", young, backup_id="b")),
        "app_failed_c": str(swap.Marker("failed", "app", "some day", backup_id="c")),
        # Kept because somebody asked, of another database, of another state, of nobody.
        "app_restore_a": str(swap.Marker("failed", "app", old, backup_id="a")),
        "other_failed_a": str(swap.Marker("failed", "other", old, backup_id="a")),
        "app_failed_d": str(swap.Marker("proven", "app", old, backup_id="d")),
        "app_failed_e": None,
    }
    assert set(restore.failed_copies(databases, "app")) == {"app_failed_a", "app_failed_b", "app_failed_c"}
    assert set(restore.failed_copies(databases, "app", now=now)) == {"app_failed_a", "app_failed_c"}


def test_what_the_server_did_is_no_fault_of_the_backup():
    assert restore.is_of_backup(["pg_restore: error: could not execute query: ERROR:  function f() does not exist"])
    assert not restore.is_of_backup(["pg_restore: error: COPY failed: ERROR:  could not extend file: No space left"])
    assert not restore.is_of_backup(["pg_restore: error: it was ended by signal 9"])


PLATFORM = ("anon", "supabase_admin", "supabase_auth_admin")


@pytest.mark.parametrize(
    ("is_project", "roles", "beside", "into_project"),
    [
        (False, (), "", "this server is no managed project.*pg_restore restores"),
        (False, PLATFORM, "", "this server is no managed project.*pg_restore restores"),
        (True, (), "", "is not of a managed project; pg_restore restores"),
        (True, PLATFORM, "pg_restore_project restores it", ""),
    ],
)
def test_each_restore_refuses_what_is_the_others(is_project, roles, beside, into_project):
    there, backup = server(is_project=is_project), manifest(roles=roles)
    new_database = partial(restore.check_for_new_database, params=options())
    for check, refusal in ((new_database, beside), (restore.check_for_project, into_project)):
        with pytest.raises(RunbookError, match=refusal) if refusal else contextlib.nullcontext():
            check(there, backup)


def options(**changes: Any) -> dict[str, Any]:
    """What is said of a new database, as the modules have it by default."""
    return {"scratch": False, "keep_failed": False, "hold_days": 0, "without_extensions": []} | changes


@pytest.mark.parametrize(
    "asked", [{"scratch": True}, {"keep_failed": True}, {"hold_days": 14}, {"without_extensions": ["pg_cron"]}]
)
def test_what_is_said_of_a_new_database_leads_to_no_restore_into_a_project(asked):
    (name,) = asked
    restore.check_options_for_project(options())
    with pytest.raises(RunbookError, match=f"^{name}: .*leave out db_restore_{name},"):
        restore.check_options_for_project(options(**asked))
    with pytest.raises(RunbookError) as refused:
        restore.check_for_new_database(server(is_project=True), manifest(roles=PLATFORM), options(**asked))
    dropped_or_kept = name in {"scratch", "keep_failed"}
    assert (f"{name} needs a new database" in refused.value.message) is dropped_or_kept
    assert ("into_project" in refused.value.message) is not dropped_or_kept
