"""Rights that are missing: the sentence names them, and what it names fixes.

Each test runs the statements that it was told, and asks again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Database, run_module

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, OWNER = "maintenance", "Odd owner"
LIMITS: dict[str, dict[str, Any]] = {
    "pg_vacuum": {"tables": None},
    "pg_reindex": {"min_size_bytes": 8192},
    "pg_compact": {"min_size_bytes": 8192},
    "pg_bloat_info": {"min_size_bytes": 8192},
}


@pytest.fixture
def foreign(database: Database) -> Iterator[Database]:
    """A bloated table under row-level security in a schema of its own, somebody's who is no superuser."""
    database.run(
        f'CREATE ROLE "{OWNER}"', f"CREATE ROLE {USER} LOGIN", f'CREATE SCHEMA kept AUTHORIZATION "{OWNER}"',
        f'SET ROLE "{OWNER}"', "CREATE TABLE kept.messages (id bigint PRIMARY KEY, body text)",
        "INSERT INTO kept.messages SELECT i, repeat('x', 90) FROM generate_series(1, 5000) AS i",
        "DELETE FROM kept.messages WHERE id % 5 > 0", "VACUUM ANALYZE kept.messages",
        "INSERT INTO kept.messages SELECT i, repeat('x', 90) FROM generate_series(10001, 11000) AS i",
        "DELETE FROM kept.messages WHERE id > 10000",
        "ALTER TABLE kept.messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )  # fmt: skip
    yield database
    database.run("DROP SCHEMA kept CASCADE", f"DROP OWNED BY {USER}", f"DROP ROLE {USER}", f'DROP ROLE "{OWNER}"')


def said(database: Database, module: str) -> tuple[dict[str, Any], str]:
    """A dry run's result, and all that it says in words."""
    options = database.login | {"login_user": USER} | {k: v for k, v in LIMITS[module].items() if v is not None}
    outcome = run_module(module, options, check=True)
    assert not outcome.failed, outcome.result["msg"]
    warned = [one if isinstance(one, str) else one["event"]["msg"] for one in outcome.result.get("warnings", [])]
    return outcome.result, " ".join([outcome.result["msg"], *warned])


def statements(text: str) -> list[str]:
    """The SQL that sentences name, each once."""
    found = re.findall(r"(?:CREATE (?:EXTENSION|SCHEMA)|GRANT) [^;]*?(?=;|\.(?:\s|$)|$)", text)
    return list(dict.fromkeys(one.rstrip(".") for one in found))


@pytest.mark.parametrize("module", ["pg_vacuum", "pg_reindex", "pg_compact", "pg_bloat_info"])
def test_what_is_named_fixes(foreign: Database, module: str) -> None:
    wants_pages = module != "pg_vacuum"
    if wants_pages and not foreign.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgstattuple'"):
        pytest.skip("this server has no pgstattuple")
    result, text = said(foreign, module)
    assert "kept.messages" in text
    for _round in range(5):
        named = statements(text)
        if not named:
            break
        foreign.run(*named)
        result, text = said(foreign, module)
    assert result["status"] == "ok", text
    assert statements(text) == []
    figures = {
        "pg_vacuum": lambda: [one["table"] for one in result["tables"] if one["state"] == "planned"],
        "pg_reindex": lambda: [one["index"] for one in result["indexes"] if one["state"] == "planned"],
        "pg_compact": lambda: [one["table"] for one in result["tables"] if one["action"] != "none"],
        "pg_bloat_info": lambda: [one["relation"] for one in result["relations"] if one["method"] == "measured"],
    }[module]()
    if module != "pg_compact":
        assert any(name.startswith("kept.messages") for name in figures), figures
    # Nothing of it opened the rows.
    if foreign.one("SELECT current_setting('server_version_num')::int") >= 170000:
        assert not foreign.one(f"SELECT has_table_privilege('{USER}', 'kept.messages', 'SELECT')")
