"""A rotation killed after every single call: the key that the application has is valid, and the next run ends it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.keys.access_keys import AccessKeys, Account
from ansible.module_utils.runbook.drivers.keys.role_keys import RoleKeys
from ansible.module_utils.runbook.drivers.postgres import roles as roles_driver
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
from ansible.module_utils.runbook.rules.keys.rotation import PROVEN, RETIRED
from botocore.client import BaseClient
from keys import DATABASE, HTTP_CALLS, ROLES, UPLOADS, Killed, Killer, a_world, knows_password, login_roles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import S3, Database
    from keys import Work


@dataclass
class Case:
    """A kind of key: an application that uses one, and how its service judges it."""

    name: str
    begin: Callable[[Path, ExitStack], Work]
    #: Whether the service lets in who comes with the variables that a function gives.
    accepts: Callable[[Work, Callable[[str], str]], bool]
    #: How many keys there are, of those that let somebody in.
    count: Callable[[Work], int]
    #: Lets the service see that the new key is used, and the old one is not.
    use: Callable[[Work], None] = lambda _work: None
    places: tuple[tuple[Any, str], ...] = ()


def supabase() -> Case:
    def begin(folder: Path, stack: ExitStack) -> Work:
        return stack.enter_context(a_world(folder))

    return Case(
        "server",
        begin,
        lambda work, of: work.supabase.accepts(of("SUPABASE_SECRET_KEY")),
        lambda work: sum(each["type"] == "secret" for each in work.supabase.api_keys),
        lambda work: work.supabase.key_uses.update({work.live(): 5}),
    )


def access_key(moto: S3) -> Case:
    options = {
        "region": "us-east-1", "endpoint_url": moto.endpoint_url, "profile": None, "access_key": "moto",
        "secret_key": "moto", "session_token": None, "aws_ca_bundle": None, "account_id": "123456789012",
    }  # fmt: skip
    iam = boto3.client("iam", endpoint_url=moto.endpoint_url, region_name="us-east-1", aws_access_key_id="moto",
                       aws_secret_access_key="moto")  # fmt: skip

    #: Moto does not show a secret again.
    told: dict[str, str] = {}

    def begin(folder: Path, stack: ExitStack) -> Work:
        for key in iam.list_access_keys(UserName="uploads")["AccessKeyMetadata"]:
            iam.delete_access_key(UserName="uploads", AccessKeyId=key["AccessKeyId"])
        old = iam.create_access_key(UserName="uploads")["AccessKey"]
        told[old["AccessKeyId"]] = old["SecretAccessKey"]
        work = stack.enter_context(a_world(folder, (UPLOADS,), {"s3_access_key": provider}))
        work.deploy(S3_ACCESS_KEY_ID=old["AccessKeyId"], S3_SECRET_ACCESS_KEY=old["SecretAccessKey"])
        return work

    def active() -> list[str]:
        keys = iam.list_access_keys(UserName="uploads")["AccessKeyMetadata"]
        return [key["AccessKeyId"] for key in keys if key["Status"] == "Active"]

    def accepts(_work: Work, of: Callable[[str], str]) -> bool:
        key_id = of("S3_ACCESS_KEY_ID")
        return key_id in active() and of("S3_SECRET_ACCESS_KEY") == told.get(key_id, of("S3_SECRET_ACCESS_KEY"))

    iam.create_user(UserName="uploads")
    provider = AccessKeys(Account(options), lambda _secret: None)
    return Case("uploads", begin, accepts, lambda _work: len(active()), places=((BaseClient, "_make_api_call"),))


def role(database: Database) -> Case:
    database.run("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def begin(folder: Path, stack: ExitStack) -> Work:
        password = stack.enter_context(login_roles(database))
        target = Target(database.host, database.port, database.name, database.user, None)
        provider = RoleKeys(target, lambda _secret: None)
        work = stack.enter_context(a_world(folder, (DATABASE,), {"database_role": provider}))
        work.deploy(DATABASE_URL=f"postgresql://{ROLES[0]}:{password}@db.example.com/app")
        return work

    def count(_work: Work) -> int:
        named = f"rolname IN {ROLES} AND rolcanlogin"
        return int(database.one(f"SELECT count(*) FROM pg_roles WHERE {named}"))

    def use(work: Work) -> None:
        # The first look notes how many statements there were, eight days ago.
        work.retire(8)

    return Case(
        "database", begin, lambda _work, of: knows_password(database, of("DATABASE_URL")), count, use,
        ((Session, "query"), (roles_driver, "apply"), (psycopg2, "connect")),
    )  # fmt: skip


@pytest.fixture
def case(kind: str, request: pytest.FixtureRequest) -> Case:
    if kind == "supabase":
        return supabase()
    if kind == "access_key":
        return access_key(request.getfixturevalue("moto"))
    return role(request.getfixturevalue("sound_database"))


def killed(act: Callable[..., object], *arguments: Any) -> bool:
    try:
        act(*arguments)
    except Killed:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("supabase", 1), ("access_key", 5), ("role", 7),
        *(pytest.param(kind, 1, marks=pytest.mark.long) for kind in ("access_key", "role")),
    ],
)  # fmt: skip
def test_a_key_works_whatever_call_was_the_last_one(
    case: Case, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killer = Killer(monkeypatch, (*HTTP_CALLS, *case.places))
    after, was_killed = 1 - step, True
    while was_killed:
        after += step
        folder = tmp_path / str(after)
        folder.mkdir()
        killer.begin(0)
        with ExitStack() as stack:
            work = case.begin(folder, stack)
            killer.begin(after)
            was_killed = killed(work.create, case.name)
            killer.begin(0)
            # Of what is live, and of what is built just now.
            assert case.accepts(work, work.live), after
            assert case.accepts(work, work.set), after
            work.create(case.name)
            assert work.phase(case.name) == PROVEN, after
            assert case.accepts(work, work.live), after
            assert case.count(work) == 2, after
            case.use(work)
            killer.begin(after)
            was_killed |= killed(work.retire, 10)
            killer.begin(0)
            assert case.accepts(work, work.live), after
            work.retire(10)
            assert work.phase(case.name) == RETIRED, after
            assert case.accepts(work, work.live), after
            assert case.count(work) == 1, after
    # Fewer would mean that calls went past the killer.
    assert after > 30
