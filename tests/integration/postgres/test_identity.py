"""Every module asks which cluster and database answered before it asks anything else, or writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import Database, run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

#: What each module needs besides a database, so that it comes as far as the connection.
BUCKET = {
    "bucket": "nothing",
    "endpoint_url": "http://127.0.0.1:9",
    "access_key": "nobody-here",
    "secret_key": "nothing-here",
}
MODULES: dict[str, dict[str, Any]] = {
    "pg_archive": {"source": "public.a", "archive": "public.b", "timestamp_column": "t", "older_than_days": 90},
    "pg_bloat_info": {},
    "pg_compact": {},
    "pg_finding_apply": {"finding": "unused_index:public.a.b"},
    "pg_heartbeat": {},
    "pg_index_info": {},
    "pg_integrity": {},
    "pg_lease": {},
    "pg_query_info": {},
    "pg_reindex": {},
    "pg_roles": {"environment": "sandbox"},
    "pg_swap": {"database": "a", "replacement": "b"},
    "pg_vacuum": {},
    "pg_rollback_compare": {"replacement": "b"},
    "pg_rollback_plan": {"backup": "latest", **BUCKET},
    "pg_rollback_take_lease": {"data_dir": "/x", "target_time": "2026-11-23T03:00:00Z"},
}


@pytest.mark.parametrize("module", MODULES)
def test_another_cluster_is_refused(module, database: Database):
    # In check mode a heartbeat asks nothing of the database.
    check = module != "pg_heartbeat"
    outcome = run_module(module, MODULES[module] | database.login | {"system_identifier": "42"}, check=check)
    assert outcome.failed
    assert "the inventory means cluster 42, and cluster" in outcome.result["msg"]


def test_an_empty_pin_is_refused_with_what_was_found(database: Database):
    found = database.one("SELECT system_identifier::text FROM pg_control_system()")
    outcome = run_module("pg_query_info", database.login | {"system_identifier": ""})
    assert outcome.failed
    assert f"pin it: preflight_system_identifier: '{found}'" in outcome.result["msg"]


def test_a_user_who_may_not_ask_is_told_the_fix(database: Database):
    database.run(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC",
        "DROP ROLE IF EXISTS nosy",
        "CREATE ROLE nosy LOGIN",
    )
    try:
        options = database.login | {"login_user": "nosy", "system_identifier": "42"}
        outcome = run_module("pg_query_info", options)
    finally:
        database.run("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO PUBLIC", "DROP ROLE nosy")
    assert outcome.failed
    assert "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system()" in outcome.result["msg"]


def test_a_review_looks_at_no_other_cluster(tmp_path: Path, database: Database):
    project = Project.for_database(tmp_path, database)
    project.hosts["db"]["preflight_system_identifier"] = "42"
    ended = project.run("performance.yml")
    assert ended.code != 0
    for module in ("pg_query_info", "pg_index_info", "pg_bloat_info"):
        said = ended.last(module)
        assert said["state"] == "failed"
        assert "the inventory means cluster 42" in said["msg"]
