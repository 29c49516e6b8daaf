"""Module pg_copy_cleanup on a real server: unfinished copies go, and what somebody may need stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.rules.backup.restore import Making
from ansible.module_utils.runbook.rules.backup.swap import Marker
from conftest import Database, run_module

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.backup.swap import State


def _marked(database: Database, suffix: str, state: State, *, days: float) -> str:
    name = f"{database.name}_{suffix}"
    marker = Marker(state, database.name, f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}")
    database.run(f"CREATE DATABASE {name}", f"COMMENT ON DATABASE {name} IS '{marker}'")
    return name


@pytest.fixture
def copies(database: Database):
    """One of each kind."""
    making = str(Making("2026-01-01T00-00-00Z", 999_999_999))
    made = {
        "left": _marked(database, "left", "restoring", days=1), "new": _marked(database, "new", "restoring", days=0),
        "used": _marked(database, "used", "restoring", days=1), "waits": _marked(database, "waits", "proven", days=20),
        "making": making, "plain": f"{database.name}_restore_2026",
    }  # fmt: skip
    database.run(f'CREATE DATABASE "{making}" ALLOW_CONNECTIONS false', f"CREATE DATABASE {made['plain']}")
    yield made
    for name in made.values():
        database.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_what_killed_restores_left_goes_and_a_person_is_told_of_the_rest(database: Database, copies: dict[str, str]):
    here = f"SELECT datname FROM pg_database WHERE datname ~ '^{database.name}_|^runbook_making_' ORDER BY 1"
    before = database.run(here)
    at_work = Database(database.host, database.port, copies["used"], database.user).connect()
    dry = run_module("pg_copy_cleanup", database.login, check=True, diff=True)
    assert database.run(here) == before
    # Another role's are named: only their owner drops them.
    database.run(f"CREATE ROLE other_{database.name} LOGIN", f"GRANT pg_monitor TO other_{database.name}")
    try:
        theirs = run_module("pg_copy_cleanup", database.login | {"login_user": f"other_{database.name}"}, check=True)
        assert theirs.result["removed_databases"] == [], theirs.result
        assert f"Database {copies['left']} is unfinished" in str(theirs.result["warnings"])
    finally:
        database.run(f"DROP ROLE other_{database.name}")
    done = run_module("pg_copy_cleanup", database.login)
    at_work.close()
    gone = sorted([copies["left"], copies["making"]])
    assert not done.failed, done.result["msg"]
    assert sorted(dry.result["removed_databases"]) == sorted(done.result["removed_databases"]) == gone, done.result
    assert database.run(here) == [row for row in before if row[0] not in gone]
    assert done.result["waiting_databases"] == [copies["waits"]]
    assert f'as {database.user}: DROP DATABASE "{copies["waits"]}"' in str(done.result["warnings"])
    assert run_module("pg_copy_cleanup", database.login).result["removed_databases"] == [copies["used"]]
    assert run_module("pg_copy_cleanup", database.login).result["changed"] is False


def test_a_session_of_another_role_is_seen_without_a_right_to_look_at_it(database: Database):
    """Who restores is no member of pg_monitor, and a person may be looking at a copy that failed."""
    owner, person = f"restorer_{database.name}", f"person_{database.name}"
    name = _marked(database, "looked_at", "restoring", days=1)
    database.run(
        f"CREATE ROLE {owner} LOGIN CREATEDB", f"CREATE ROLE {person} LOGIN", f"ALTER DATABASE {name} OWNER TO {owner}",
        f"GRANT CONNECT ON DATABASE {name} TO {person}",
    )  # fmt: skip
    looking = Database(database.host, database.port, name, person).connect()
    try:
        kept = run_module("pg_copy_cleanup", database.login | {"login_user": owner}, check=True)
        (copy,) = (each for each in kept.result["copies"] if each["name"] == name)
        assert (copy["sessions"], copy["action"]) == (1, "keep"), kept.result
    finally:
        looking.close()
        database.run(f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {owner}", f"DROP ROLE {person}")
