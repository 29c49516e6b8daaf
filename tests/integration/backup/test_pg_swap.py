"""pg_swap against a real PostgreSQL: names change together or not at all, and what belongs to the name goes along."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.backup import swap
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.rules.backup.swap import Marker, State
from conftest import Database, Outcome, module_process, run_module, this_run


class Pair:
    """A live database, and a restored one beside it."""

    def __init__(self, live: Database) -> None:
        self.live = live
        self.admin = replace(live, name="postgres")
        self.new = replace(live, name=f"{live.name}_restore")
        self.mark("proven")
        live.run("CREATE TABLE public.which AS SELECT 'live' AS name")
        self.new.run("CREATE TABLE public.which AS SELECT 'restored' AS name")

    def mark(self, state: State, *, database: str | None = None) -> None:
        marker = Marker(state, database or self.live.name, "2026-11-23T03:00:00Z")
        if not self.admin.one(f"SELECT count(*) FROM pg_database WHERE datname = '{self.new.name}'"):
            self.admin.run(f'CREATE DATABASE "{self.new.name}"')
        self.admin.run(f"""COMMENT ON DATABASE "{self.new.name}" IS '{marker}'""")

    @property
    def options(self) -> dict[str, Any]:
        return self.admin.login | {"database": self.live.name, "replacement": self.new.name, "grace_s": 0}

    def swap(self, *, check: bool = False, **options: Any) -> Outcome:
        return run_module("pg_swap", self.options | options, check=check, diff=check)

    def names(self) -> dict[str, str | None]:
        """The databases of this pair, with their comments."""
        query = "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname LIKE '{}%'"
        return dict(self.admin.run(query.format(self.live.name)))

    def said(self) -> str:
        """Which of the two answers to the live name."""
        return str(self.live.one("SELECT name FROM public.which"))

    def facts(self) -> tuple[Any, ...]:
        """What belongs to the live name and not to its contents."""
        (row,) = self.admin.run(
            f"""SELECT pg_get_userbyid(datdba), datconnlimit, shobj_description(oid, 'pg_database'),
                  (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) a),
                  (SELECT array_agg(s ORDER BY s) FROM (SELECT setrole::regrole::text || unnest(setconfig) AS s
                     FROM pg_db_role_setting WHERE setdatabase = d.oid) x)
                FROM pg_database d WHERE datname = '{self.live.name}'"""
        )
        return row


@pytest.fixture
def pair(database):
    made = Pair(database)
    yield made
    for name in made.names():
        made.admin.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def roles(pair):
    pair.admin.run("CREATE ROLE swap_owner", 'CREATE ROLE "swap ""app"""', "CREATE ROLE swap_other LOGIN")
    yield
    for name in pair.names():
        pair.admin.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    pair.admin.run("DROP ROLE swap_owner", 'DROP ROLE "swap ""app"""', "DROP ROLE swap_other")


@pytest.mark.usefixtures("roles")
def test_what_belongs_to_the_name_goes_along_and_undo_brings_everything_back(pair: Pair):
    name = pair.live.name
    pair.admin.run(
        f"ALTER DATABASE {name} OWNER TO swap_owner",
        f"ALTER DATABASE {name} CONNECTION LIMIT 7",
        f"""ALTER DATABASE {name} SET search_path = app, "We ird", public""",
        f"ALTER DATABASE {name} SET work_mem = '7MB'",
        f"ALTER DATABASE {name} SET runbook.environment = 'production'",
        f"ALTER DATABASE {name} SET app.tenant = 'it''s, \"one\"'",
        f'ALTER ROLE "swap ""app""" IN DATABASE {name} SET statement_timeout = \'5s\'',
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {name} TO "swap ""app""" WITH GRANT OPTION',
        f"GRANT CREATE ON DATABASE {name} TO swap_other",
        f"COMMENT ON DATABASE {name} IS 'The one of the ''billing'' team'",
    )
    before = pair.facts()
    outcome = pair.swap()
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["changed"]
    assert pair.said() == "restored"
    assert pair.facts() == before
    previous = outcome.result["previous"]
    assert pair.names().keys() == {name, previous}
    aside = Marker.read(pair.names()[previous])
    assert aside
    assert aside == Marker("previous", name, aside.at, run=str(this_run().id), replaced_by=pair.new.name)
    # The one that is swapped out is production's too.
    assert replace(pair.live, name=previous).one("SHOW runbook.environment") == "production"
    again = pair.swap()
    assert not again.failed, again.result["msg"]
    assert not again.result["changed"]
    undone = pair.swap(replacement=previous)
    assert not undone.failed, undone.result["msg"]
    assert pair.said() == "live"
    assert pair.facts() == before


@pytest.mark.usefixtures("roles")
def test_who_may_not_set_what_the_live_one_carries_is_told_before_anything(pair: Pair):
    """To own a database is not enough to mark it, and a copy that lost its mark belongs nowhere."""
    pair.admin.run("ALTER ROLE swap_owner LOGIN CREATEDB")
    for name in pair.names():
        pair.admin.run(f'ALTER DATABASE "{name}" OWNER TO swap_owner')
    pair.admin.run(f"ALTER DATABASE {pair.live.name} SET runbook.environment = 'production'")
    before = pair.facts()
    for check in (True, False):
        refused = pair.swap(check=check, login_user="swap_owner")
        assert "'swap_owner' may not set runbook.environment" in refused.result["msg"]
    assert pair.facts() == before
    if pair.admin.one("SHOW server_version_num") >= "150000":
        pair.admin.run("GRANT SET ON PARAMETER runbook.environment TO swap_owner")
        try:
            swapped = pair.swap(login_user="swap_owner")
        finally:
            pair.admin.run("REVOKE SET ON PARAMETER runbook.environment FROM swap_owner")
        assert not swapped.failed, swapped.result["msg"]
        assert pair.live.one("SHOW runbook.environment") == "production"


def test_check_mode_changes_no_name(pair: Pair):
    before = pair.names()
    pair.live.run('CREATE SCHEMA "of ours"', 'CREATE EXTENSION citext SCHEMA "of ours"')
    planned = pair.swap(check=True)
    assert planned.result["changed"]
    # A restore leaves out what only a superuser makes, and nobody else says so at the moment that counts.
    assert 'run in it as a superuser: CREATE EXTENSION citext SCHEMA "of ours".' in str(planned.result["warnings"])
    assert pair.names() == before
    assert f"{pair.new.name} -> {pair.live.name}" in planned.result["diff"]["prepared"]
    real = pair.swap()
    assert len(real.result["executed_queries"]) == len(planned.result["executed_queries"])


def test_busy_applications_meet_one_database_or_the_other(pair: Pair):
    seen, errors, stop = [], [], threading.Event()

    def application() -> None:
        while not stop.is_set():
            try:
                with contextlib.closing(pair.live.connect()) as connection, connection.cursor() as cursor:
                    for _ in range(20):
                        cursor.execute("SELECT name FROM public.which")
                        seen.append(cursor.fetchone()[0])
                        time.sleep(0.002)
            except psycopg2.Error as error:
                errors.append(str(error))

    threads = [threading.Thread(target=application) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        while len(seen) < 50:
            time.sleep(0.01)
        outcome = pair.swap(grace_s=1)
        count = len(seen)
        while len(seen) < count + 50:
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["ended_sessions"] >= 1
    assert seen[0] == "live"
    assert seen[-1] == "restored"
    assert set(seen) == {"live", "restored"}
    # Each application was sent away at most a few times, and came back by itself.
    assert all(
        "terminating connection" in text or "closed the conn" in text or "does not exist" in text for text in errors
    )


def test_a_transaction_of_another_role_is_waited_for_without_a_right_to_look_at_it(database: Database):
    """Who swaps is no member of pg_monitor: of what others do PostgreSQL shows that they are there, and no more."""
    name = f"swapper_{database.name}"
    database.run(f"CREATE ROLE {name} LOGIN")
    (oid,) = database.run(f"SELECT oid::int FROM pg_database WHERE datname = '{database.name}'")[0]
    target = postgres.Target(database.host, database.port, "postgres", name, None, "disable")
    try:
        with postgres.Session(target, lock_timeout_ms=1_000, statement_timeout_ms=10_000) as session:
            # What made the role is gone in a moment.
            until = time.monotonic() + 60
            while swap.is_busy(session, oid):
                assert time.monotonic() < until
            at_work = database.connect()
            at_work.autocommit = False
            at_work.cursor().execute("SELECT 1")
            assert swap.is_busy(session, oid)
            at_work.close()
    finally:
        database.run(f"DROP ROLE {name}")


def test_killed_at_any_moment_either_both_names_changed_or_neither(pair: Pair):
    names = pair.names().keys()
    for delay in (0.3, 0.36, 0.42, 0.5):
        users = [pair.live.connect() for _ in range(3)]
        process = module_process("pg_swap", pair.options)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for user in users:
            user.close()
        # The server may be about to finish what it was told.
        end = time.monotonic() + 10
        while pair.admin.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook pg_swap'"):
            assert time.monotonic() < end
            time.sleep(0.01)
        now = pair.names().keys()
        assert pair.live.name in now
        swapped = pair.new.name not in now
        assert pair.said() == ("restored" if swapped else "live")
        assert len(now) == len(names)
        finished = pair.swap()
        assert not finished.failed, finished.result["msg"]
        assert finished.result["changed"] is not swapped
        back = pair.swap(replacement=finished.result["previous"])
        assert not back.failed, back.result["msg"]
        pair.admin.run(f'ALTER DATABASE "{back.result["previous"]}" RENAME TO "{pair.new.name}"')


def test_what_must_not_be_swapped_is_refused(pair: Pair):
    def refused(words: str, **options: Any) -> None:
        outcome = pair.swap(**options)
        assert outcome.failed
        assert words in outcome.result["msg"]
        assert not outcome.result["changed"]

    refused("replacement: it is empty", replacement="")
    refused("connect to another one", login_db=pair.live.name)
    refused("bears no mark", replacement="template1")
    pair.mark("unproven")
    refused("is unproven, not proven")
    pair.mark("proven", database="somebody")
    refused("copy of 'somebody'")
    pair.mark("proven")
    pair.admin.run("CREATE ROLE swap_nobody LOGIN CREATEDB")
    try:
        refused("may not rename", login_user="swap_nobody")
    finally:
        pair.live.run("DROP OWNED BY swap_nobody")
        pair.admin.run("DROP ROLE swap_nobody")
    assert pair.said() == "live"


def test_a_lease_of_another_run_is_respected_and_our_own_is_given_back(pair: Pair):
    row = (
        "INSERT INTO runbook.lease (run_id, controller, machine, purpose, acquired_at, expires_at)"
        " VALUES ('{}', 'elsewhere/1', '', 'weekly_db.yml', now(), now() + interval '1 h')"
    )
    pair.live.run(*lease.DDL, row.format("another"))
    # The run that made the backup held the lease then.
    pair.new.run(*lease.DDL, row.format("backup"))
    outcome = pair.swap()
    assert outcome.failed
    assert "another" in outcome.result["msg"]
    assert pair.said() == "live"
    pair.live.run("UPDATE runbook.lease SET run_id = 'mine'")
    outcome = run_module("pg_swap", pair.options, RUNBOOK_RUN_ID="mine")
    assert not outcome.failed, outcome.result["msg"]
    assert pair.live.one("SELECT count(*) FROM runbook.lease") == 0
    assert replace(pair.live, name=outcome.result["previous"]).one("SELECT count(*) FROM runbook.lease") == 0


def test_a_copy_that_is_another_environments_takes_nobodys_place(pair: Pair):
    pair.admin.run(
        f"ALTER DATABASE {pair.live.name} SET runbook.environment = 'production'",
        f"ALTER DATABASE {pair.new.name} SET runbook.environment = 'sandbox'",
    )
    outcome = pair.swap()
    assert outcome.failed
    assert "marked as 'sandbox'" in outcome.result["msg"]
    assert pair.said() == "live"
