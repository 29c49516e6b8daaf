"""Two login roles that take turns: the second has the rights of the first, or is refused with the way to get there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.keys.role_keys import RoleKeys
from ansible.module_utils.runbook.drivers.postgres.postgres import Target
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.keys.definition import parse
from ansible.module_utils.runbook.rules.keys.rotation import Rotation
from keys import DATABASE, ROLES, login_roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Database

(KEY,) = parse([DATABASE])
GROUP = f"{ROLES[0]}_group"
NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
BEGUN = Rotation.begun(KEY, ROLES[0], None, "dpl_1", NOW)


@pytest.fixture
def roles(database: Database) -> Iterator[tuple[Database, RoleKeys]]:
    with login_roles(database):
        yield (
            database,
            RoleKeys(Target(database.host, database.port, database.name, database.user, None), lambda _: None),
        )


def of_roles(database: Database, column: str) -> dict[str, object]:
    return dict(database.run(f"SELECT rolname, {column} FROM pg_roles WHERE rolname IN {ROLES} ORDER BY 1"))


def test_the_second_role_has_the_rights_limits_and_settings_of_the_first(roles: tuple[Database, RoleKeys]):
    database, provider = roles
    assert provider.current(KEY).id == ROLES[0]
    database.run(f"ALTER ROLE {ROLES[0]} IN DATABASE {database.name} SET work_mem = '8MB'")
    made = provider.make(KEY, BEGUN)
    assert (made.id, len(made.parts["password"])) == (ROLES[1], 43)
    assert made.parts["password"] not in repr(made)
    assert of_roles(database, "rolconnlimit") == dict.fromkeys(ROLES, 20)
    assert database.one(f"SELECT pg_has_role('{ROLES[1]}', '{GROUP}', 'USAGE')")
    settings = database.run(
        "SELECT r.rolname, s.setdatabase <> 0, unnest(s.setconfig) FROM pg_db_role_setting s"
        f" JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname IN {ROLES} ORDER BY 1, 2, 3"
    )
    assert [row[1:] for row in settings[:3]] == [row[1:] for row in settings[3:]]
    assert (ROLES[1], False, 'search_path="$user", app, public') in settings
    # Made once more after a kill: another password, the same role.
    again = provider.make(KEY, BEGUN)
    assert again.parts["password"] != made.parts["password"]
    with pytest.raises(RunbookError, match=r"may log in .* name it in in_use"):
        provider.current(KEY)


def test_the_old_role_loses_login_and_password_and_comes_back_in_its_turn(roles: tuple[Database, RoleKeys]):
    database, provider = roles
    provider.make(KEY, BEGUN)
    provider.retire(KEY, BEGUN)
    provider.retire(KEY, BEGUN)
    assert of_roles(database, "rolcanlogin") == {ROLES[0]: False, ROLES[1]: True}
    assert database.one(f"SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = '{ROLES[0]}'")
    assert provider.current(KEY).id == ROLES[1]
    assert provider.make(KEY, Rotation.begun(KEY, ROLES[1], None, "dpl_2", NOW)).id == ROLES[0]
    assert of_roles(database, "rolcanlogin") == dict.fromkeys(ROLES, True)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TABLE public.own (); ALTER TABLE public.own OWNER TO {0}", "owns objects"),
        ("CREATE TABLE public.own (); GRANT SELECT ON public.own TO {0}", "owns objects, or has privileges"),
        ("REVOKE {1} FROM {0}", "is a member of no role"),
        ("ALTER ROLE {0} CREATEDB", "may more than an application needs"),
        ("GRANT {1} TO {0} WITH ADMIN OPTION", "may more than an application needs"),
        ("CREATE ROLE {2} LOGIN; GRANT pg_monitor TO {2}", "is a member of pg_monitor, and"),
    ],
)
def test_rights_that_no_second_role_would_have_are_refused(roles: tuple[Database, RoleKeys], statement: str, says: str):
    database, provider = roles
    database.run(*statement.format(ROLES[0], GROUP, ROLES[1]).split(";"))
    try:
        with pytest.raises(RunbookError, match=re.escape(says)):
            provider.make(KEY, BEGUN)
        assert (
            database.one(f"SELECT count(*) FROM pg_authid WHERE rolname = '{ROLES[1]}' AND rolpassword IS NOT NULL")
            == 0
        )
    finally:
        database.run("DROP TABLE IF EXISTS public.own")


def test_a_role_is_used_while_it_has_a_session_or_runs_statements(sound_database: Database):
    sound_database.run("CREATE EXTENSION pg_stat_statements")
    target = Target(sound_database.host, sound_database.port, sound_database.name, sound_database.user, None)
    provider, later = RoleKeys(target, lambda _: None), NOW + timedelta(days=2)
    with login_roles(sound_database):
        first = provider.use(KEY, BEGUN, NOW)
        assert first.judge("database", NOW).status == "breach"
        noted = BEGUN.to("proven", NOW, sample=first.sample)
        assert provider.use(KEY, noted, later).judge("database", later).status == "ok"
        session = sound_database.connect()
        session.cursor().execute(f"SET SESSION AUTHORIZATION {ROLES[0]}")
        session.cursor().execute("SELECT 1")
        session.close()
        used = provider.use(KEY, noted, later)
        assert used.judge("database", later).status == "breach"
        assert used.sample != first.sample


def test_without_a_count_of_statements_nobody_knows(roles: tuple[Database, RoleKeys]):
    _, provider = roles
    unknown = provider.use(KEY, BEGUN, NOW)
    assert unknown.judge("database", NOW).status == "unknown"
    assert "pg_stat_statements" in unknown.msg
