"""The README's playbooks in a row, on a database as production is, with users that may do their work and no more.

The tables belong to an owner that is no superuser, row-level security keeps the patients', from the owner too. Only
db_roles.yml logs in as a superuser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.sandbox.demo_database import fill
from ansible.module_utils.runbook.rules.sandbox import demo_database

from playbooks import SMALL, Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Database

#: Who owns what, who may do what with it, and what row-level security keeps; not what an extension made.
RIGHTS = """
    SELECT 'table', n.nspname, c.relname, c.relowner::regrole,
      array_to_string(array(SELECT unnest(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char"
      ELSE 'r' END, c.relowner)))::text ORDER BY 1), ' '), c.relrowsecurity, c.relforcerowsecurity,
      array(SELECT p.polname::text || p.polroles::text FROM pg_policy p WHERE p.polrelid = c.oid ORDER BY 1)::text
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_)'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i'))
    UNION ALL SELECT 'schema', '', nspname, nspowner::regrole, array_to_string(array(SELECT unnest(nspacl)::text
      ORDER BY 1), ' '), false, false, '' FROM pg_namespace WHERE nspname !~ '^(pg_|information_)'
    UNION ALL SELECT 'default', defaclobjtype::text, defaclnamespace::regnamespace::text, defaclrole::regrole,
      array_to_string(array(SELECT unnest(defaclacl)::text ORDER BY 1), ' '), false, false, '' FROM pg_default_acl
    UNION ALL SELECT 'database', '', '', datdba::regrole, array_to_string(array(SELECT unnest(datacl)::text
      ORDER BY 1), ' '), false, false, '' FROM pg_database WHERE datname = current_database()
    ORDER BY 1, 2, 3, 4
"""
MISSING_INDEX = "missing_foreign_key_index:public.conversations.template_id"


def test_every_playbook_of_the_readme(sound_database: Database, s3: S3, tmp_path: Path) -> None:
    database = sound_database
    if not database.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgstattuple'"):
        pytest.skip("this server has no pgstattuple, so the bloat of what may not be read is unknown")
    database.run("CREATE EXTENSION pg_stat_statements")
    connection = database.connect()
    fill(connection, [*demo_database.steps(scale=0.2, seed=1), *demo_database.traffic()])
    connection.close()
    bucket = s3.protected_bucket()
    proof = {"login_host": database.host, "login_port": database.port, "login_user": "runbook_restorer"}
    options = {f"backup_{name}": value for name, value in s3.options(bucket).items()}
    options |= {f"backup_proof_{name}": value for name, value in proof.items()}
    project = Project.for_database(tmp_path, database, **SMALL, **options, backup_prefix="least")
    cluster = project.hosts["db"]["preflight_system_identifier"]
    project.all_vars |= {"backup_proof_system_identifier": cluster, "backup_proof_ssl_mode": "prefer"}
    version = int(database.one("SHOW server_version_num"))
    copy = f"{database.name}_copy"
    with project.least_privilege(database):
        try:
            assert project.run("db_roles.yml").last("pg_roles")["changed"] is False
            for playbook, variables in (
                ("weekly_db.yml", {}), ("monthly_db.yml", {}), ("backup.yml", {}),
                ("backup_verify.yml", {"backup_verify_proof": True}), ("heartbeat.yml", {}), ("performance.yml", {}),
                ("capacity.yml", {}),
                ("restore.yml", {"db_restore_target_database": copy}),
                ("restore_swap.yml", {"db_restore_replacement": copy}),
                ("rollback.yml", {"db_rollback_backup": "latest", "db_rollback_replace": database.name}),
            ):  # fmt: skip
                if playbook == "restore.yml" and version < 150000:
                    # There the schema public of a new database is a superuser's, and so are its rights.
                    ended = project.run(playbook, **variables)
                    assert ended.code == 2
                    assert (
                        "before PostgreSQL 15 the schema public of a new database belongs to a superuser"
                        in ended.output
                    )
                    return
                ended = project.run(playbook, **variables)
                assert ended.code == 0, f"{playbook}\n{ended.output}"
                assert "should have foreseen" not in ended.output
                if playbook == "backup.yml":
                    rights = database.run(RIGHTS)
                elif playbook == "restore_swap.yml":
                    assert database.run(RIGHTS) == rights
                if playbook == "weekly_db.yml":
                    assert ended.last("pg_archive")["moved_rows"] > 5000
                elif playbook == "monthly_db.yml":
                    assert [one["status"] for one in ended.results["pg_bloat_info"]] == ["ok", "ok"]
                    assert ended.results["pg_bloat_info"][-1]["methods"]["measured"] > 0
                elif playbook == "performance.yml":
                    ids = {one["id"] for one in ended.last("pg_index_info")["findings"]}
                    assert {MISSING_INDEX, "duplicate_index:public.sessions.sessions_user_id_idx"} <= ids
                    # Before 18 a cluster is made without checksums of its pages, which is said.
                    unknown = {one["kind"] for one in ended.last("pg_index_info")["unknown"]}
                    assert unknown <= {"checksum_failures"}
            assert database.run(RIGHTS) == rights
            # Nothing of it opened the patients' tables, or made its users more than they were.
            # Before 17 only owners vacuum, so there the bastion is one of them.
            is_owner = version < 170000
            for table in () if is_owner else ("messages", "notes", "profiles"):
                assert not database.one(f"SELECT has_table_privilege('runbook_bastion', 'public.{table}', 'SELECT')")
            assert not database.one("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'runbook_bastion'")
            assert not database.one("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'runbook_restorer'")
        finally:
            # They hold rights of the roles, which are dropped next.
            for (name,) in database.run(f"SELECT datname FROM pg_database WHERE datname ~ '^{database.name}_'"):
                database.run(f'DROP DATABASE "{name}" WITH (FORCE)')
