"""Backups in a bucket, made by hand: the format and nothing of PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import zstandard
from ansible.module_utils.runbook.rules.backup import manifest as manifests

if TYPE_CHECKING:
    from datetime import datetime

    from conftest import S3

DATABASE = "mental_scribe"
PREFIX = "logical"
SYSTEM_IDENTIFIER = "7000000000000000001"


def folder(at: datetime, *, database: str = DATABASE) -> str:
    """Where the backup of that time lies."""
    return manifests.folder(PREFIX, database, manifests.backup_id(at))


def folder_of(made: manifests.Manifest) -> str:
    """Where that backup lies."""
    return manifests.folder(PREFIX, made.source.database, made.backup_id)


def packed(content: bytes) -> bytes:
    """As a backup stores it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def make(
    s3: S3, bucket: str, at: datetime, *, database: str = DATABASE, proof: str | None = None, manifest: bool = True,
    encryption: str = "none", data: tuple[bytes, ...] = (b"stream zero " * 5000, b"stream one " * 3000),
    cut_bytes: int = 1 << 30, system_identifier: str = SYSTEM_IDENTIFIER,
) -> manifests.Manifest:  # fmt: skip
    """Write a backup; ``proof`` adds one of that status, ``manifest=False`` stops before the last step.

    :param cut_bytes: a data stream longer than this goes on in another object
    """
    client, base = s3.client(), folder(at, database=database)
    stored: list[tuple[str, str, int, int, bytes]] = [(f"{base}schema.dump.zst", "schema", 0, 0, packed(b"schema"))]
    for stream, content in enumerate(data):
        whole = packed(content)
        for part, first in enumerate(range(0, len(whole), cut_bytes)):
            suffix = f".{part:04}" if part else ""
            piece = whole[first : first + cut_bytes]
            stored.append((f"{base}data-{stream:02}.dump.zst{suffix}", "data", stream, part, piece))
    objects = []
    for key, kind, stream, part, content in stored:
        answer = client.put_object(Bucket=bucket, Key=key, Body=content)
        digest = hashlib.sha256(content).hexdigest()
        objects.append(
            manifests.Object(key, kind, stream, part, len(content), digest, answer.get("VersionId"))  # type: ignore[arg-type]  # kinds are literals above
        )
    begun = at.isoformat()
    made = manifests.Manifest(
        schema_version=1, backup_id=manifests.backup_id(at), kind="logical", started_at=begun, finished_at=begun,
        duration_s=1.0,
        source=manifests.Source(
            system_identifier, database, "18.6", 180006, "UTF8", "C", "C", "libc", None, "postgres", begun, None, 1000
        ),
        tools=manifests.Tools("18.6", "0.1.0", "zstd:3", encryption), roles=(), extensions=(), objects=tuple(objects),
        tables=(manifests.TableEntry("public", "messages", 3, "17", 8192),),
        large_objects=manifests.LargeObjects(0, None), hash=manifests.HashInfo("m", "all", "p"), dump_bytes=1000,
    )  # fmt: skip
    if manifest:
        client.put_object(Bucket=bucket, Key=f"{base}{manifests.MANIFEST_NAME}", Body=made.to_bytes())
    if proof:
        prove(s3, bucket, at, made, status=proof, at=at)
    return made


def prove(s3: S3, bucket: str, made_at: datetime, made: manifests.Manifest, *, status: str, at: datetime) -> None:
    """Write a proof of a backup."""
    said: dict[str, Any] = {
        "schema_version": 1, "backup_id": made.backup_id, "database": made.source.database,
        "proven_at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "status": status, "msg": "", "run_id": "", "duration_s": 1.0,
        "server_version_num": 180006, "manifest_sha256": json.loads(made.to_bytes())["sha256"], "compared": 1, "ok": 1,
        "tables": [],
    }  # fmt: skip
    key = f"{folder(made_at, database=made.source.database)}proof-{at:%Y-%m-%dT%H-%M-%SZ}.json"
    s3.client().put_object(Bucket=bucket, Key=key, Body=json.dumps(said).encode())
