"""Buckets of a drill: those that it makes in the sandbox and removes, and the one in the second region."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.drill.state import State

#: A bucket of a drill bears this name and the drill's; no other is ever removed.
_NAME = "runbook-drill-"
_MARK = "runbook-drill"
_PLACE = (
    "region", "endpoint_url", "profile", "access_key", "secret_key", "session_token", "aws_ca_bundle",
)  # fmt: skip


def names(state: State) -> tuple[str, ...]:
    """The buckets that a drill makes, the one in the second region last; none where it breaks nothing."""
    if not state.is_sandbox:
        return ()
    name = f"{_NAME}{state.drill_id.lower()}"
    return name, f"{name}-replica"


def place(state: State, params: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the bucket that is used now.

    :param params: options of a module, those of the bucket among them, and ``replica`` for one that the drill did not
        make
    """
    given = dict(params)
    if state.is_sandbox:
        return given | {"bucket": names(state)[state.is_replica]}
    return given | dict.fromkeys(_PLACE) | params["replica"] if state.is_replica else given


def own(params: Mapping[str, Any], name: str) -> s3.Store:
    """A bucket of the drill's own."""
    return s3.Store.from_params({**params, "bucket": name})


def make(store: s3.Store, environment: str) -> None:
    """Make a bucket of the drill's own, marked as such."""
    with s3.explained(f"Making {store}"):
        store.client.create_bucket(Bucket=store.bucket)
        tags = [{"Key": "runbook-environment", "Value": environment}, {"Key": _MARK, "Value": "true"}]
        store.client.put_bucket_tagging(Bucket=store.bucket, Tagging={"TagSet": tags})


def copy(source: s3.Store, to: s3.Store) -> int:
    """What replication between two regions does: every object is there too; how many."""
    number = 0
    for entry in source.entries():
        with s3.explained(f"Copying {source.url(entry.key)}"):
            to.client.copy_object(
                Bucket=to.bucket, Key=entry.key, CopySource={"Bucket": source.bucket, "Key": entry.key}
            )
        number += 1
    return number


def remove(store: s3.Store) -> bool:
    """Remove a bucket of a drill with all that is in it; whether it was there.

    :raises RunbookError: it is not one of a drill
    """
    if not store.bucket.startswith(_NAME):
        raise RunbookError(f"bucket: {store.bucket} is not one that a drill made; it is left alone.")
    try:
        store.client.head_bucket(Bucket=store.bucket)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and s3.code(error) in ("404", "NoSuchBucket"):
            return False
        with s3.explained(f"Removing {store}"):
            raise
    if _MARK not in store.tags():
        raise RunbookError(f"bucket: {store.bucket} bears no tag {_MARK}, so no drill made it; it is left alone.")
    # What was being archived when the server was killed may still arrive.
    for attempt in range(5):
        for key, upload_id, _ in store.uploads(""):
            store.abort_upload(key, upload_id)
        store.delete(store.entries())
        try:
            store.client.delete_bucket(Bucket=store.bucket)
            return True
        except ClientError as error:
            if s3.code(error) not in ("BucketNotEmpty", "409") or attempt == 4:
                with s3.explained(f"Removing {store}"):
                    raise
        time.sleep(0.2)
    return True
