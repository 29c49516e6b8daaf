"""Access keys of AWS: what stands in the place of a new one, and what is known of the use of an old one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from ansible.module_utils.runbook.drivers.keys.access_keys import AccessKeys, Account
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.keys.definition import parse
from ansible.module_utils.runbook.rules.keys.rotation import Rotation
from keys import UPLOADS

if TYPE_CHECKING:
    from conftest import S3

(KEY,) = parse([UPLOADS | {"user": "turns"}])


class World:
    """A user of IAM with one access key."""

    def __init__(self, moto: S3) -> None:
        self.options: dict[str, Any] = {
            "region": None, "endpoint_url": moto.endpoint_url, "profile": None, "access_key": "moto",
            "secret_key": "moto", "session_token": None, "aws_ca_bundle": None, "account_id": "123456789012",
        }  # fmt: skip
        self.iam = boto3.client(
            "iam", endpoint_url=moto.endpoint_url, region_name="us-east-1", aws_access_key_id="moto",
            aws_secret_access_key="moto",
        )  # fmt: skip
        self.hidden: list[str] = []
        self.provider = AccessKeys(Account(self.options), self.hidden.append)
        self.iam.create_user(UserName="turns")
        self.old = self.add()

    def add(self) -> str:
        return str(self.iam.create_access_key(UserName="turns")["AccessKey"]["AccessKeyId"])

    def there(self) -> dict[str, str]:
        found = self.iam.list_access_keys(UserName="turns")["AccessKeyMetadata"]
        return {each["AccessKeyId"]: each["Status"] for each in found}

    def begun(self, days_ago: float = 0) -> Rotation:
        return Rotation.begun(KEY, self.old, None, "dpl_1", datetime.now(UTC) - timedelta(days=days_ago))

    def end(self) -> None:
        for key in self.there():
            self.iam.delete_access_key(UserName="turns", AccessKeyId=key)
        self.iam.delete_user(UserName="turns")


@pytest.fixture
def world(moto: S3):
    made = World(moto)
    yield made
    made.end()


def test_what_a_killed_run_made_makes_way_and_so_does_what_was_retired(world: World):
    assert world.provider.current(KEY).id == world.old
    orphan = world.add()
    made = world.provider.make(KEY, world.begun())
    assert orphan not in world.there()
    assert world.there() == {world.old: "Active", made.id: "Active"}
    assert made.parts["secret"] in world.hidden
    assert made.parts["secret"] not in repr(made)
    rotation = world.begun().to("created", datetime.now(UTC), new=made.id)
    world.provider.retire(KEY, rotation)
    world.provider.retire(KEY, rotation)
    assert world.there() == {world.old: "Inactive", made.id: "Active"}
    following = Rotation.begun(KEY, made.id, None, "dpl_2", datetime.now(UTC))
    newest = world.provider.make(KEY, following)
    assert set(world.there()) == {made.id, newest.id}
    world.provider.discard(KEY, following.to("created", datetime.now(UTC), new=newest.id))
    assert set(world.there()) == {made.id}


def test_a_key_of_somebody_else_is_left_alone(world: World):
    other = world.add()
    with pytest.raises(RunbookError, match=f"{other}, never used, and AWS allows no third"):
        # Nobody made it for this rotation, which begins tomorrow.
        world.provider.make(KEY, world.begun(days_ago=-1))
    with pytest.raises(RunbookError, match="does not say which one is in use"):
        world.provider.current(KEY)
    assert set(world.there()) == {world.old, other}


def test_what_is_known_of_the_use_of_an_old_key(world: World):
    now = datetime.now(UTC)
    never = world.provider.use(KEY, world.begun(), now)
    assert "never saw" in never.msg
    assert never.judge("uploads", now).status == "breach"
    assert never.judge("uploads", now + timedelta(hours=25)).status == "ok"


def test_a_refusal_and_silence_are_told_apart_and_repeat_no_secret(world: World):
    gone, _ = parse([UPLOADS | {"user": "nobody"}, UPLOADS | {"name": "other", "env": [
        {"name": "X", "part": "id"}, {"name": "Y", "part": "secret"}]}])  # fmt: skip
    with pytest.raises(RunbookError, match="there is no such user") as refused:
        world.provider.current(gone)
    assert refused.value.status == "breach"
    away = AccessKeys(Account(world.options | {"endpoint_url": "http://127.0.0.1:1"}), world.hidden.append)
    with pytest.raises(UnreachableError, match="did not answer"):
        away.current(KEY)
