"""How a bucket is set up, read for comparison with what the inventory demands, and what S3 locks in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.s3.s3 import ERRORS, code, explained
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_retention import (
    DELETION_NAME,
    MAX_DELETION_BYTES,
    Folder,
    Version,
)
from ansible.module_utils.runbook.rules.backup.bucket_check import Setting
from ansible.module_utils.runbook.rules.backup.manifest import (
    CLAIM_NAME,
    MANIFEST_NAME,
    MAX_CLAIM_BYTES,
    MAX_MANIFEST_BYTES,
)
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.rules.backup.backup_origin import Origin

#: Small objects that are read at the same time.
_AT_ONCE = 8
#: Codes that mean the setting was never made.
_ABSENT = frozenset({
    "NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchPublicAccessBlockConfiguration",
    "ObjectLockConfigurationNotFoundError", "ReplicationConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
})  # fmt: skip
#: Codes of errors that concern the whole bucket, not one of its settings.
_FATAL = frozenset({
    "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
    "InvalidToken", "RequestTimeTooSkewed", "PermanentRedirect", "301",
})  # fmt: skip


def read_settings(store: Store) -> dict[str, Setting]:
    """Everything that protects a bucket: each setting by the name of its S3 operation.

    :raises RunbookError: the bucket is missing, or cannot be reached with these credentials at all
    """
    client, bucket = store.client, {"Bucket": store.bucket}
    with explained(f"Looking at {store}"):
        client.head_bucket(**bucket)
    reads: dict[str, Callable[[], Any]] = {
        "versioning": lambda: client.get_bucket_versioning(**bucket).get("Status"),
        "encryption": lambda: client.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"],
        "public_access_block": lambda: client.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"],
        "policy_is_public": lambda: client.get_bucket_policy_status(**bucket)["PolicyStatus"]["IsPublic"],
        "acl": lambda: client.get_bucket_acl(**bucket)["Grants"],
        "object_lock": lambda: client.get_object_lock_configuration(**bucket)["ObjectLockConfiguration"],
        "replication": lambda: client.get_bucket_replication(**bucket)["ReplicationConfiguration"]["Rules"],
        "lifecycle": lambda: client.get_bucket_lifecycle_configuration(**bucket)["Rules"],
        "policy": lambda: client.get_bucket_policy(**bucket)["Policy"],
    }
    return {name: _read(store, name, read) for name, read in reads.items()}


def _read(store: Store, name: str, read: Callable[[], Any]) -> Setting:
    try:
        return Setting(read())
    except ClientError as error:
        found = code(error)
        if found in _ABSENT:
            return Setting(None)
        with explained(f"Reading {name} of {store}"):
            if found in _FATAL:
                raise
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if found == "AccessDenied" or status == 403:
            return Setting(None, "these credentials may not read it")
        return Setting(None, f"this S3 server does not answer it ({found})", is_foreign=True)
    except KeyError:
        return Setting(None, "this S3 server does not answer it", is_foreign=True)
    except ERRORS:
        with explained(f"Reading {name} of {store}"):
            raise
        raise  # explained() raised already; this line only tells the reader so


@dataclass(frozen=True)
class Lock:
    """What S3 says about one version; ``retain_until`` is None where nothing is retained."""

    legal_hold: bool
    retain_until: datetime | None


def has_object_lock(store: Store) -> bool:
    """Whether versions in this bucket may be locked; True where the server does not say."""
    try:
        answer = store.client.get_object_lock_configuration(Bucket=store.bucket)
    except ClientError as error:
        return code(error) not in _ABSENT
    except ERRORS:
        with explained(f"Reading the object lock of {store}"):
            raise
        raise
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def lock_of(store: Store, key: str, version_id: str | None) -> Lock:
    """What S3 says about the deletion of one version.

    :raises RunbookError: it cannot be asked
    """
    answer = store.head(key, version_id)
    if answer is None:
        return Lock(legal_hold=False, retain_until=None)
    until = answer.get("ObjectLockRetainUntilDate")
    return Lock(
        legal_hold=answer.get("ObjectLockLegalHoldStatus") == "ON",
        retain_until=until.astimezone(UTC) if isinstance(until, datetime) else None,
    )


def hide(store: Store, key: str) -> str | None:
    """Delete an object as everybody sees it: in a bucket with versions it gets a delete marker, whose id is given.

    :raises RunbookError: it was refused
    """
    with explained(f"Deleting {store.url(key)}"):
        answer = store.client.delete_object(Bucket=store.bucket, Key=key)
    marker: str | None = answer.get("VersionId") if answer.get("DeleteMarker") else None
    return marker


def unhide(store: Store, key: str, version_id: str | None) -> None:
    """Delete one version for good: a delete marker, so that the object is there again, or a document of ours.

    :param version_id: None in a bucket without versions
    :raises RunbookError: it was refused
    """
    version = {"VersionId": version_id} if version_id else {}
    with explained(f"Bringing back {store.url(key)}"):
        store.client.delete_object(Bucket=store.bucket, Key=key, **version)


def clock(store: Store) -> datetime:
    """The S3 server's time, which dates all that it stores; this machine's own where the server does not tell.

    :raises RunbookError: the bucket cannot be asked
    """
    with explained(f"Looking at {store}"):
        answer = store.client.head_bucket(Bucket=store.bucket)
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)


def dead_uploads(
    store: Store, prefix: str, *, begun_before: datetime, warn: Callable[[str], None]
) -> list[tuple[str, str]] | None:
    """Uploads that were begun before a moment and never ended: key and upload id; their parts are paid for.

    :param warn: told where this login may not list them, and what ends them then; None is returned
    :raises RunbookError: the bucket cannot be asked
    """
    try:
        found = store.uploads(prefix)
    except RunbookError as error:
        if error.context.get("s3_code") != "AccessDenied":
            raise
        warn(
            f"Unfinished uploads below {store.url(prefix)} are unknown, because these keys lack "
            "s3:ListBucketMultipartUploads; grant it, or see that a lifecycle rule (AbortIncompleteMultipartUpload) "
            "ends them."
        )
        return None
    return [(key, upload_id) for key, upload_id, begun_at in found if begun_at < begun_before]


def listed(store: Store, root: str, backup_id: str = "") -> Iterator[tuple[str, Version]]:
    """Every version and delete marker of a database's backups, with the name of the backup's folder.

    :param root: the database's folder, with its slash
    :param backup_id: only this backup
    :raises RunbookError: not all can be listed
    """
    for each in store.versions(f"{root}{backup_id}/" if backup_id else root):
        name, _, rest = each.key.removeprefix(root).partition("/")
        yield (
            name,
            Version(rest, each.version_id, each.size_bytes, each.modified_at, each.is_latest, each.is_delete_marker),
        )


def folder_now(store: Store, root: str, backup_id: str) -> Folder:
    """All that lies in the folder of one backup by now."""
    return Folder(backup_id, tuple(version for _name, version in listed(store, root, backup_id)))


def deletion_documents(store: Store, root: str, folders: Iterable[Folder]) -> dict[str, bytes]:
    """What retentions wrote down before they deleted, by the backup's name; of backups that are not there any more.

    :raises RunbookError: one cannot be read, which does not mean that it says nothing
    """
    return {
        folder.backup_id: store.read(
            f"{root}{folder.backup_id}/{DELETION_NAME}",
            # By its version, because somebody may have hidden it with the rest.
            folder.deletion.version_id,
            most_bytes=MAX_DELETION_BYTES,
        )
        for folder in folders
        if not folder.is_complete and folder.deletion is not None
    }


def origin(store: Store, folder: str, read: Callable[[str, bytes], Origin | None]) -> Origin | None:
    """Whose backup it is, by its claim, or by its manifest where the claim is older than that; None if neither tells.

    :param folder: the backup's folder, with its slash
    :param read: takes the name and the text of one of the two
    :raises RunbookError: they cannot be read, which does not mean that they say nothing
    """
    for name, most_bytes in ((CLAIM_NAME, MAX_CLAIM_BYTES), (MANIFEST_NAME, MAX_MANIFEST_BYTES)):
        if store.head(folder + name) is None:
            continue
        found = read(name, store.read(folder + name, most_bytes=most_bytes))
        if found:
            return found
    return None


def origins(
    store: Store, root: str, backup_ids: Sequence[str], read: Callable[[str, bytes], Origin | None]
) -> dict[str, Origin | None]:
    """Whose backups they are, by their names."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda name: origin(store, f"{root}{name}/", read), backup_ids)
        return dict(zip(backup_ids, found, strict=True))


class Backups:
    """The backups of one database in a bucket."""

    def __init__(self, store: Store, folders: Sequence[str]) -> None:
        """Find their folder: the first that holds something, or else the first.

        :param folders: where they may lie, the right place first
        """
        self._store = store
        self.home = home(store, folders)
        self.url = store.url

    def names(self) -> Sequence[str]:
        """Names found in it."""
        return self._store.folders(self.home)

    def manifest(self, folder: str) -> bytes | None:
        """The manifest in a backup's folder; None where there is none, so that the backup is not complete."""
        return manifest_text(self._store, folder)


def manifest_text(store: Store, folder: str) -> bytes | None:
    """The manifest in a backup's folder; None where there is none, so that the backup is not complete.

    :param folder: with its slash
    """
    key = folder + MANIFEST_NAME
    return None if store.head(key) is None else store.read(key, most_bytes=MAX_MANIFEST_BYTES)


def home(store: Store, folders: Sequence[str]) -> str:
    """The folder of a database's backups: the first that holds something, or else the first.

    :param folders: where they may lie, the right place first
    """
    if len(folders) == 1:
        return folders[0]
    return next((each for each in folders if any(True for _ in store.versions(each))), folders[0])
