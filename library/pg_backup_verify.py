#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_verify
short_description: Check that logical backups are present, complete, readable and recent
description:
  - Reads a bucket of backups that M(pg_backup) made, and compares what it finds with what was promised. Nothing is
    written, and no database is asked.
  - The checks are C(age) (the newest complete backup is young enough), C(complete) (none was left unfinished),
    C(manifest) (it is well-formed, unchanged, and of this database), C(objects) (all are there, with their sizes, and
    were not overwritten), C(content) (read to the end, each has the SHA-256 of the manifest, and unpacks), C(count) and
    C(retention) (how many there are, and how far one can go back), C(proof) (one was restored and compared, not too
    long ago), C(replica) and C(replica_content) (the second region holds the same).
  - The module fails when a check is not V(ok). What could not be judged is V(unknown), and fails too.
extends_documentation_fragment:
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.clusters
options:
  system_identifier:
    description:
      - The cluster that the backups must be of, as C(pg_control_system()) tells it. Not compared where it is empty.
    type: str
    default: ''
  max_age_s:
    description:
      - Largest age of the newest complete backup, in seconds.
    type: int
    default: 93600
  wait_s:
    description:
      - Longest wait for a backup that is being made, in seconds. One whose process is known to have ended, because it
        ran on this machine, is not waited for.
    type: int
    default: 3600
  read_newest:
    description:
      - How many of the newest backups are read to their end. Of the others only the listing is looked at.
    type: int
    default: 1
  jobs:
    description:
      - Objects that are read at the same time.
    type: int
    default: 4
  deadline_s:
    description:
      - Longest time for reading, in seconds.
    type: int
    default: 14400
  retention_days:
    description:
      - How far back one wants to be able to go, in days. Not checked where it is 0.
    type: int
    default: 30
  since:
    description:
      - The day on which backups began, like V(2026-11-23), so that a young history is no breach.
    type: str
    default: ''
  min_backups:
    description:
      - How many complete backups there must be.
    type: int
    default: 1
  max_proof_age_s:
    description:
      - Largest age of the last proof, in seconds. Not checked where it is 0.
    type: int
    default: 691200
  replica_bucket:
    description:
      - Bucket in the second region. Not checked where it is not set.
    type: str
  replica_region:
    description:
      - Region of O(replica_bucket).
    type: str
  replica_endpoint_url:
    description:
      - Address of the S3 API that O(replica_bucket) is in.
    type: str
  replica_profile:
    description:
      - Profile of the AWS configuration files for O(replica_bucket).
    type: str
  replica_access_key:
    description:
      - Access key ID for O(replica_bucket).
    type: str
  replica_secret_key:
    description:
      - Secret access key for O(replica_bucket). Keep it in Ansible Vault.
    type: str
  replica_session_token:
    description:
      - Session token for O(replica_bucket).
    type: str
  replica_max_lag_s:
    description:
      - A younger backup may still be on its way to the second region, in seconds.
    type: int
    default: 3600
  replica_read_newest:
    description:
      - How many of the newest backups are read to their end in the second region too.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Nothing is written anyway.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Last night's backup is whole
  pg_backup_verify:
    bucket: mental-scribe-backups
    region: us-east-1
    prefix: logical
    database: mental_scribe
    replica_bucket: mental-scribe-backups-replica
    replica_region: us-west-2
"""

RETURN = r"""
changed:
  description: Always false.
  type: bool
  returned: always
msg:
  description: One sentence on all checks.
  type: str
  returned: always
status:
  description: The worst of all checks, V(ok), V(breach) or V(unknown).
  type: str
  returned: always
checks:
  description: Each check with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when the bucket could be read
backups:
  description: Names of the complete backups, the newest first.
  type: list
  elements: str
  returned: when the bucket could be read
age_s:
  description: Age of the newest complete backup, in seconds; null if there is none.
  type: float
  returned: when the bucket could be read
size_bytes:
  description: Bytes of the newest complete backup; null if there is none.
  type: int
  returned: when the bucket could be read
last_good_backup:
  description: When the newest backup began that was found whole; null if none was.
  type: str
  returned: when the bucket could be read
last_proof:
  description: The last proof, with C(backup_id), C(proven_at), C(status) and C(age_s); null if there is none.
  type: dict
  returned: when the bucket could be read
read_bytes:
  description: Bytes that were read back.
  type: int
  returned: when the bucket could be read
rate_bytes_s:
  description: How fast they were read, in bytes a second; null if nothing was.
  type: int
  returned: when the bucket could be read
waited_s:
  description: How long the module waited for a backup that was being made, in seconds.
  type: float
  returned: when the bucket could be read
"""

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.backup import backup_read
from ansible.module_utils.runbook.drivers.s3 import bucket as driver
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_check as rules
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import backup_retention as retention
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.status import Check, Status, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.backup.backup_check import Stored
    from ansible.module_utils.runbook.rules.backup.manifest import Manifest, Object

#: Longest pause between two looks for the end of a backup, in seconds.
POLL_S = 10.0
AT_LEAST = {
    "max_age_s": 1, "wait_s": 0, "read_newest": 0, "jobs": 1, "deadline_s": 1, "retention_days": 0, "min_backups": 1,
    "max_proof_age_s": 0, "replica_max_lag_s": 0, "replica_read_newest": 0,
}  # fmt: skip


class Verify:
    """One call of the module."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        for name, least in AT_LEAST.items():
            if params[name] < least:
                raise RunbookError(f"{name}: {params[name]} is not possible; give {least} or more.")
        if not params["database"]:
            raise RunbookError("database: it is empty; name the database whose backups these are.")
        self.clusters = origins.accepted(params["system_identifier"], params["previous_clusters"])
        self.since = rules.parse_since(params["since"])
        self.store = s3.Store.from_params(params, connections=params["jobs"] + 2)
        self.root = driver.home(self.store, manifests.database_folders(params["prefix"], params["database"]))
        self.replica = self._replica()
        self.checks: list[Check] = []
        self.read_bytes = 0
        self.read_s = 0.0
        self._lock = threading.Lock()

    def _replica(self) -> s3.Store | None:
        if not self.params["replica_bucket"]:
            return None
        options = {name: self.params.get(f"replica_{name}") for name in s3.argument_spec()}
        options["aws_ca_bundle"] = self.params["aws_ca_bundle"]
        return s3.Store.from_params(options, connections=self.params["jobs"] + 2)

    def run(self) -> dict[str, Any]:
        """Look at everything, then say it; red where one check is not ok."""
        found, waited_s, dead = self._settled()
        now = datetime.now(UTC)
        params = self.params
        self.checks += [
            rules.judge_age(found, now, params["max_age_s"]),
            rules.judge_complete(found, waited_s, dead),
            rules.judge_count(found, params["min_backups"]),
            self._hidden(),
        ]
        if params["retention_days"]:
            self.checks.append(rules.judge_retention(found, now, params["retention_days"], self.since))
        good = self._newest(found)
        proof = self._last_proof(found)
        if params["max_proof_age_s"]:
            self.checks.append(rules.judge_proof(proof, now, params["max_proof_age_s"]))
        if self.replica is not None:
            self._check_replica(self.replica, found, now)
        newest = found.complete[0] if found.complete else None
        begun = manifests.started_at(newest) if newest else None
        good_at = manifests.started_at(good) if good else None
        proven = rules.proven_at(proof) if proof else None
        facts: dict[str, Any] = {
            "backups": found.complete,
            "age_s": begun and round(rules.age_s(begun, now), 1),
            "size_bytes": sum(found.backups[newest].values()) if newest else None,
            "last_good_backup": good_at and good_at.isoformat(),
            "last_proof": proof
            and {
                "backup_id": proof.backup_id,
                "proven_at": proof.proven_at,
                "status": proof.status,
                "age_s": proven and round(rules.age_s(proven, now), 1),
            },
            "read_bytes": self.read_bytes,
            "rate_bytes_s": round(self.read_bytes / self.read_s) if self.read_s > 0 else None,
            "waited_s": round(waited_s, 1),
        }
        msg = sentence(f"Backups of {params['database']} in {self.store}", self.checks)
        return self.context.conclude(self.checks, msg=msg, **facts)

    # What is there

    def _list(self, store: s3.Store, *, uploads: bool = False) -> Stored:
        begun = [key for key, _id, _at in store.uploads(self.root)] if uploads else []
        return rules.stored(((each.key, each.size_bytes) for each in store.entries(self.root)), self.root, begun)

    def _settled(self) -> tuple[Stored, float, set[str]]:
        """The listing, once the backup that is being made has ended or was waited for long enough.

        A backup whose process is known to be dead is not waited for; its name is given too.
        """
        started, longest = time.monotonic(), self.params["wait_s"]
        while True:
            found = self._list(self.store, uploads=True)
            waited = time.monotonic() - started
            dead = {name for name in found.incomplete if self._is_dead(found, name)}
            if waited >= longest or not rules.is_running(found, datetime.now(UTC), self.params["max_age_s"], dead):
                return found, waited, dead
            self.context.progress.update(f"waiting for backup {found.incomplete[0]}", waited, longest, "s")
            time.sleep(min(POLL_S, max(longest / 10, 0.2), longest - waited + 0.01))

    def _is_dead(self, found: Stored, name: str) -> bool:
        """Whether the process that began a backup has ended; not known of another machine's, so it counts as alive."""
        if manifests.CLAIM_NAME not in found.backups[name]:
            return False
        with suppress(RunbookError):
            text = self.store.read(f"{self.root}{name}/{manifests.CLAIM_NAME}", most_bytes=manifests.MAX_CLAIM_BYTES)
            maker = process.parse(manifests.parse_claim(text).process)
            return maker is not None and maker.life() == "dead"
        return False

    def _hidden(self) -> Check:
        """No backup was hidden by a deletion that no retention decided."""
        database = self.params["database"]
        try:
            found = retention.folders(driver.listed(self.store, self.root))
            documents = driver.deletion_documents(self.store, self.root, found)
        except RunbookError as error:
            if error.context.get("s3_code") not in ("AccessDenied", "NotImplemented"):
                raise
            return Check.unknown("hidden", f"{error.message} Grant s3:ListBucketVersions and s3:GetObjectVersion.")
        names = retention.hidden(found, retention.deletions(documents, database=database))
        if names:
            return Check.breach("hidden", retention.hidden_sentence(database, names))
        return Check.ok("hidden", "No backup is hidden by a deletion that nobody decided.")

    # The newest ones

    def _newest(self, found: Stored) -> str | None:
        """Check the newest backups; the name of the newest one that is whole."""
        good = None
        for backup_id in found.complete[: max(self.params["read_newest"], 1)]:
            made = self._manifest(self.store, backup_id)
            if isinstance(made, Check):
                self.checks.append(made)
                continue
            own = [
                rules.judge_manifest(
                    made,
                    backup_id=backup_id,
                    root=self.root,
                    database=self.params["database"],
                    clusters=self.clusters,
                )
            ]
            if own[0].status == Status.OK:
                own.append(rules.judge_objects(made, {each.key: self._head(each) for each in made.objects}))
                if self.params["read_newest"]:
                    own.append(self._content(self.store, made))
            self.checks += own
            if good is None and all(check.status == Status.OK for check in own):
                good = backup_id
        return good

    def _manifest(self, store: s3.Store, backup_id: str) -> Manifest | Check:
        key = f"{self.root}{backup_id}/{manifests.MANIFEST_NAME}"
        content = store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES)
        try:
            return manifests.parse(content, where=store.url(key))
        except RunbookError as error:
            return Check.breach("manifest", error.message)

    def _head(self, each: Object) -> tuple[int, str | None] | None:
        answer = self.store.head(each.key)
        return None if answer is None else (int(answer["ContentLength"]), answer.get("VersionId"))

    def _content(self, store: s3.Store, made: Manifest, where: str = "") -> Check:
        singles = [[each] for each in made.objects if each.kind != "data"]
        streams: list[Sequence[Object]] = [*made.data_streams().values(), *singles]
        # The longest first, so that none is left alone at the end.
        streams.sort(key=lambda stream: -sum(each.size_bytes for each in stream))
        if where:
            # Versions have names of their own in each bucket.
            streams = [[_unversioned(each) for each in stream] for stream in streams]
        started = time.monotonic()
        total = self.read_bytes + made.size_bytes

        def tick(count: int) -> None:
            with self._lock:
                self.read_bytes += count
                self.context.progress.update(f"reading {made.backup_id}{where}", self.read_bytes, total, "bytes")
            if time.monotonic() - started > self.params["deadline_s"]:
                raise RunbookError(
                    f"deadline_s: {made.backup_id}{where} was not read within {self.params['deadline_s']} s; raise it, "
                    "or look why the network is slow.",
                    stop=True,
                    status=Status.UNKNOWN,
                )

        unpack = made.tools.encryption == "none"
        read = backup_read.read_all(store, streams, jobs=self.params["jobs"], unpack=unpack, tick=tick)
        self.read_s += time.monotonic() - started
        contents = {one.key: (one.size_bytes, one.sha256, one.error) for each in read for one in each.objects}
        whole = {each.objects[0].key: each.is_whole for each in read}
        return rules.judge_content(made, contents, whole, where)

    # Proof and second region

    def _last_proof(self, found: Stored) -> proofs.Document | None:
        """The proof that was made last, of whichever backup."""
        newest = [(names[0], backup_id) for backup_id in found.complete if (names := found.proofs(backup_id))]
        if not newest:
            return None
        name, backup_id = max(newest)
        key = f"{self.root}{backup_id}/{name}"
        return proofs.parse(self.store.read(key, most_bytes=proofs.MAX_DOCUMENT_BYTES), where=self.store.url(key))

    def _check_replica(self, replica: s3.Store, found: Stored, now: datetime) -> None:
        there = self._list(replica)
        both = [name for name in found.complete if name in there.complete]
        # The newest manifests are compared whole, and with them the digests of their objects; of older ones the sizes.
        newest = both[: max(self.params["read_newest"], 1)]
        differ = [name for name in newest if self._raw(replica, name) != self._raw(self.store, name)]
        self.checks.append(rules.judge_replica(found, there, now, self.params["replica_max_lag_s"], differ))
        for backup_id in both[: self.params["replica_read_newest"]]:
            made = self._manifest(replica, backup_id)
            if isinstance(made, Check):
                self.checks.append(made)
            else:
                self.checks.append(self._content(replica, made, " in the second region"))

    def _raw(self, store: s3.Store, backup_id: str) -> bytes:
        key = f"{self.root}{backup_id}/{manifests.MANIFEST_NAME}"
        return store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES)


def _unversioned(each: Object) -> Object:
    return manifests.Object(each.key, each.kind, each.stream, each.part, each.size_bytes, each.sha256, None)


def core(context: Context) -> dict[str, Any]:
    """Check and judge."""
    return Verify(context).run()


def main() -> None:
    """Entry point."""
    replica: dict[str, Any] = {
        f"replica_{name}": {key: value for key, value in option.items() if key != "required"}
        for name, option in s3.argument_spec().items()
        if name != "aws_ca_bundle"
    }
    run_module(
        core,
        name="pg_backup_verify",
        argument_spec={
            **s3.argument_spec(),
            **replica,
            "prefix": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "system_identifier": {"type": "str", "default": ""},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "max_age_s": {"type": "int", "default": 93_600},
            "wait_s": {"type": "int", "default": 3600},
            "read_newest": {"type": "int", "default": 1},
            "jobs": {"type": "int", "default": 4},
            "deadline_s": {"type": "int", "default": 14_400},
            "retention_days": {"type": "int", "default": 30},
            "since": {"type": "str", "default": ""},
            "min_backups": {"type": "int", "default": 1},
            "max_proof_age_s": {"type": "int", "default": 691_200},
            "replica_max_lag_s": {"type": "int", "default": 3600},
            "replica_read_newest": {"type": "int", "default": 0},
        },
    )


if __name__ == "__main__":
    main()
