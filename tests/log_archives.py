"""Log files, and the archive that they go to, for tests."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import zstandard
from conftest import S3, run_module

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Outcome

KEY = "0123456789abcdef0123456789abcdef"
CLASSES = {
    "operational": {"hot_days": 30, "archive_days": 365},
    "audit": {"hot_days": 30, "archive_days": 2192},
}
BEGIN = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def lines(count: int, *, begin: datetime = BEGIN, word: str = "GET /") -> bytes:
    """Lines of a log, a second apart; each one is another."""
    return b"".join(
        f"{begin + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ} INFO {word} number={number}\n".encode()
        for number in range(count)
    )


@dataclass
class Place:
    """A folder with the logs of one host, and a bucket with a state store."""

    folder: Path
    s3: S3
    bucket: str

    @classmethod
    def make(cls, folder: Path, s3: S3, **bucket: Any) -> Place:
        """An empty one."""
        (folder / "log").mkdir()
        (folder / "state").mkdir(mode=0o700)
        return cls(folder, s3, s3.bucket(**bucket))

    def options(self, **more: Any) -> dict[str, Any]:
        """Options of every module on the archive."""
        return self.s3.options(self.bucket) | {
            "state_directory": str(self.folder / "state"), "archive_host": "web", "environment": "sandbox",
            "seal_keys": [KEY],
        } | more  # fmt: skip

    def files(self, retention_class: str = "operational") -> dict[str, Any]:
        """The one stream of files."""
        return {
            "files": [{"name": "app", "class": retention_class, "paths": [str(self.folder / "log/app.log")]}],
            "classes": CLASSES,
        }

    def rotated(self, content: bytes, *, days: float = 1, number: int = 0) -> Path:
        """A file as logrotate leaves it, so many days after it was written to last."""
        at = time.time() - days * 86_400
        path = self.folder / f"log/app.log-20260601-{1_780_000_000 + number}"
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def archive(self, *, check: bool = False, **more: Any) -> Outcome:
        """Run log_archive."""
        return run_module("log_archive", self.options() | self.files() | more, check=check, diff=check)

    def verify(self, **more: Any) -> Outcome:
        """Run log_archive_verify."""
        return run_module("log_archive_verify", self.options(**more))

    def find(self, *, check: bool = False, **more: Any) -> Outcome:
        """Run log_find over all times."""
        wanted = {"since": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z", "dest": str(self.folder / "found")}
        return run_module("log_find", self.options() | wanted | {"max_lines": 10_000_000} | more, check=check)

    def keys(self, kind: str) -> list[str]:
        """Keys of the archive's objects: ``chain`` or ``data``."""
        found = self.s3.client().list_objects_v2(Bucket=self.bucket, Prefix=f"logs/web/{kind}/")
        return [each["Key"] for each in found.get("Contents", [])]

    def links(self) -> list[dict[str, Any]]:
        """The chain as it lies in the bucket."""
        client = self.s3.client()
        return [json.load(client.get_object(Bucket=self.bucket, Key=key)["Body"]) for key in self.keys("chain")]

    def archived(self) -> bytes:
        """All that is archived and counts, one archive after the other, read without the project's code."""
        client, content = self.s3.client(), b""
        links = self.links()
        void = {seq for link in links if link["kind"] != "archive" for seq in link["of"]}
        for link in links:
            if link["kind"] == "archive" and link["seq"] not in void:
                data = client.get_object(Bucket=self.bucket, Key=link["content"]["key"])["Body"].read()
                assert hashlib.sha256(data).hexdigest() == link["content"]["sha256"]
                content += zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return content
