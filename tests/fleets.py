"""Many databases in one inventory: copies of one template on one server, and what can be wrong with a few of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from conftest import Database, free_port

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Rows of the last 100 days, one a day, so that ten are older than 90 days.
APPLICATION = (
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, detail jsonb)",
    "CREATE INDEX ON public.audit_log (created_at)",
    "CREATE TABLE public.conversations (id bigint PRIMARY KEY)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, conversation_id bigint REFERENCES conversations)",
    "INSERT INTO audit_log SELECT i, now() - make_interval(hours => i * 24 - 12), '{}' FROM generate_series(1, 100) i",
)
#: How many of them are due.
OLD = 10


@contextmanager
def fleet(template: Database, folder: Path, size: int, **variables: object) -> Iterator[Project]:
    """An inventory of ``size`` copies of ``template`` as the hosts db001, db002 …; they are dropped afterwards."""
    template.run(*APPLICATION)
    admin = Database(template.host, template.port, "postgres", template.user)
    project = Project.for_database(folder, template, **variables)
    (login,) = project.hosts.values()
    project.hosts = {f"db{number:03}": login | {"db_login_db": f"fleet_{number}"} for number in range(1, size + 1)}
    try:
        for host in project.hosts:
            admin.run(f"CREATE DATABASE {login_db(project, host)} TEMPLATE {template.name}")
            database(project, host).mark("sandbox")
        yield project
    finally:
        for host in project.hosts:
            admin.run(f"DROP DATABASE IF EXISTS {login_db(project, host)} WITH (FORCE)")


def login_db(project: Project, host: str) -> str:
    """Name of a host's database."""
    return str(project.hosts[host]["db_login_db"])


def database(project: Project, host: str) -> Database:
    """A host's database, whatever its inventory says of it."""
    template = next(each for each in project.hosts.values() if "is_broken" not in each)
    port, user = int(template["db_login_port"]), str(template["db_login_user"])
    return Database("127.0.0.1", port, login_db(project, host), user)


def mistake(project: Project, host: str) -> None:
    """Let the inventory take another server for a host's."""
    project.hosts[host] |= {"preflight_system_identifier": "7000000000000000001", "is_broken": True}


def take_down(project: Project, host: str) -> None:
    """Let nobody answer for a host."""
    project.hosts[host] |= {"db_login_port": free_port(), "is_broken": True}


def left(project: Project, host: str) -> int:
    """Rows of a host that are due still."""
    due = "SELECT count(*) FROM audit_log WHERE created_at < now() - interval '90 days'"
    return int(database(project, host).one(due))
