"""On a database of Supabase's shape, as its owner, who is no superuser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import S3, Database, Outcome, disposable, run_module
from supabase_shape import MAJORS, Shape, shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.drivers.pgtools import Cluster


@pytest.fixture(scope="module", params=MAJORS)
def supabase(request: pytest.FixtureRequest) -> Iterator[Shape]:
    """A server of the shape, of each version that Supabase offers and this machine has."""
    with shape(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def plain(supabase: Shape) -> Iterator[Cluster]:
    """A server of one's own, of the same version; its superuser is not called postgres."""
    with disposable(supabase.cluster.bindir, superuser="root", fsync="off", autovacuum="off") as made:
        yield made


class Backup:
    """A project with an application in it, and its backup."""

    def __init__(self, project: Database, s3: S3) -> None:
        self.project = project
        self.options = s3.options(s3.bucket()) | {"environment": "sandbox"}
        self.made = run_module("pg_backup", project.login | self.options)

    def restore(self, into: Database, **options: Any) -> Outcome:
        """Run pg_restore on the server of ``into``."""
        given = into.login | self.options | {"database": self.project.name}
        check = options.pop("check", False)
        return run_module("pg_restore", given | options, check=check, diff=check)


@pytest.fixture(scope="module")
def backup(supabase: Shape, s3: S3) -> Iterator[Backup]:
    """The backup of a project, made by its owner."""
    with supabase.project(filled=True) as project:
        yield Backup(project, s3)


def own(plain: Cluster) -> Database:
    """The database that a restore on a server of one's own connects to."""
    return Database("127.0.0.1", plain.port, "postgres", plain.superuser)


def test_a_full_backup_by_the_owner_is_green(backup: Backup) -> None:
    """Who may read everything, but is no superuser."""
    assert not backup.made.failed, backup.made.result["msg"]
    assert backup.made.result["tables"] > 20


def test_the_proof_on_a_server_of_ones_own_agrees_and_leaves_nothing(backup: Backup, plain: Cluster) -> None:
    """Roles of the platform are made for it, without login, and are gone again afterwards."""
    there = own(plain)
    before = there.run("SELECT rolname FROM pg_roles ORDER BY 1")
    outcome = backup.restore(there, scratch=True, record_proof=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    assert "extension pg_cron" in outcome.result["left_out"]
    assert there.run("SELECT rolname FROM pg_roles ORDER BY 1") == before
    assert there.run("SELECT datname FROM pg_database WHERE datname LIKE '%proof%'") == []
