#!/usr/bin/python
"""Module s3_mirror: keep a bucket as a copy of another one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_mirror
short_description: Copy the objects of one bucket to another
description:
  - Copies new and changed objects of one bucket to another, on the same S3 API or on different ones. Supabase Storage
    has an S3 API, so its files can be kept in a second place.
  - An object is unchanged if its size and ETag are the same. Objects are uploaded in the same parts as their sources,
    so that the ETags match. If that is not possible, the metadata key C(runbook-source-etag) of the copy holds the ETag
    of its source.
  - Versioning must be enabled on the destination, so that overwritten and deleted objects can be recovered.
  - A run that was interrupted is continued by the next one. Multipart uploads that are older than O(deadline_s) are
    aborted.
  - Compares the content with its ETag during the transfer. Afterwards lists the destination again, and requires every
    copy with the size and ETag that it was written with.
  - Uses server-side copies if both buckets are on one server and accept the same credentials.
  - If a database is given, compares the objects with the rows of C(storage.objects), in which Supabase lists its files.
options:
  prefix:
    description:
      - Prefix of the keys in the destination, such as C(files/). Empty, or ends with a slash.
    type: str
    default: ''
  environment:
    description:
      - Environment of this run. The tag C(runbook-environment) of the destination must have this value.
    type: str
    required: true
  source_bucket:
    description:
      - Bucket to copy from.
    type: str
    required: true
  source_prefix:
    description:
      - Copy only objects whose keys begin with this prefix. O(prefix) replaces it in the destination.
    type: str
    default: ''
  previous_sources:
    description:
      - Former sources that this one replaces, as the error message names them. An object below C(.runbook-mirror/) in
        the destination names the source of the copies below O(prefix). If that is another source, the module writes and
        deletes nothing.
    type: list
    elements: str
    default: []
  source_region:
    description:
      - Region of O(source_bucket).
    type: str
  source_endpoint_url:
    description:
      - URL of the S3 API of O(source_bucket), for servers other than AWS. For Supabase it is
        C(https://<project-ref>.storage.supabase.co/storage/v1/s3).
    type: str
  source_profile:
    description:
      - AWS profile for O(source_bucket). Mutually exclusive with O(source_access_key).
    type: str
  source_access_key:
    description:
      - Access key ID for O(source_bucket). Read access is enough.
    type: str
  source_secret_key:
    description:
      - Secret access key for O(source_bucket). Keep it in Ansible Vault.
    type: str
  source_session_token:
    description:
      - Session token of temporary credentials for O(source_bucket).
    type: str
  source_aws_ca_bundle:
    description:
      - File with the certificate authorities to trust for O(source_endpoint_url).
    type: path
  jobs:
    description:
      - Number of objects, or parts of large objects, to copy at the same time, 1 to 64.
    type: int
    default: 16
  delete:
    description:
      - Whether to delete objects from the destination that are gone from the source. Because of versioning this only
        adds delete markers.
      - A run that could not copy everything deletes nothing.
    type: bool
    default: false
  max_delete:
    description:
      - Fail without a change if more objects than this would be deleted.
    type: int
    default: 1000
  max_delete_percent:
    description:
      - Fail without a change if more than this percentage of the files would be deleted.
    type: int
    default: 50
  max_objects:
    description:
      - Fail without a change if more objects than this are to be copied. No limit if unset.
    type: int
  max_bytes:
    description:
      - Fail without a change if more bytes than this are to be copied. No limit if unset.
    type: int
  deadline_s:
    description:
      - Time limit in seconds. After it no further object is started, a large one is aborted, and the task fails with
        the number of remaining objects. It must be long enough for the largest object.
    type: int
    default: 14400
  expect_source_versioning:
    description:
      - Whether to fail if versioning is not enabled on the source. If the server does not say so, the status is
        V(unknown).
    type: bool
    default: false
  expect_source_replication:
    description:
      - Whether to fail if replication is not configured on the source. If the server does not say so, the status is
        V(unknown).
    type: bool
    default: false
  storage_bucket_id:
    description:
      - Value of C(bucket_id) in C(storage.objects) for O(source_bucket). Defaults to the name of O(source_bucket).
    type: str
  show_keys:
    description:
      - Whether to return the keys of objects. By default a digest of the key is returned, because file names can
        contain names of people.
    type: bool
    default: false
extends_documentation_fragment:
  - runbook_s3
  - runbook_postgresql
attributes:
  check_mode:
    description: Lists and compares, and returns the plan of the real run. Writes nothing.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - The database options are needed only for the comparison with C(storage.objects). The user must be able to see all
    rows, despite row-level security.
  - Copies content, content type, cache control, disposition, encoding, language, expiry, metadata and tags. Does not
    copy old versions, ACLs, locks or storage classes; the rules of the destination apply.
  - Memory does not grow with the number or size of the objects. A temporary file takes about 200 bytes for each object.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Keep a copy of the uploaded files
  s3_mirror:
    source_bucket: uploads
    source_endpoint_url: https://abcdefghijklmnopqrst.storage.supabase.co/storage/v1/s3
    source_region: eu-central-1
    source_access_key: "{{ file_mirror_source_access_key }}"
    source_secret_key: "{{ file_mirror_source_secret_key }}"
    bucket: mental-scribe-files
    region: eu-west-1
    prefix: uploads/
    environment: production

- name: Follow deletions, and compare with the rows of storage.objects
  s3_mirror:
    source_bucket: uploads
    source_profile: supabase
    bucket: mental-scribe-files
    profile: backup
    environment: production
    delete: true
    max_delete: 100
    login_host: db.example.com
    login_user: runbook_bastion
    login_password: "{{ db_login_password }}"
    login_db: postgres
"""

RETURN = r"""
checks:
  description:
    - The checks, each with C(name), C(status), C(msg) and C(subject). C(copied); C(source_versioning) and
      C(source_replication) if they are expected; C(missing_rows) and C(differing_rows) if rows were compared.
  type: list
  elements: dict
  returned: when the source was read
msg:
  description: What was copied, or what is wrong and the fix, in one sentence.
  returned: always
  type: str
  sample: >-
    Copied 1,204 objects (3.0 GiB) from s3://uploads to s3://mental-scribe-files in 61.0 s; 98,796 were unchanged.
status:
  description: V(ok); V(breach) where something remains to be done; V(unknown) where something could not be judged.
  returned: always
  type: str
source:
  description: Where the objects come from.
  returned: always
  type: str
destination:
  description: Where they go to.
  returned: always
  type: str
plan:
  description: What there is and what was to be done.
  returned: always
  type: dict
  contains:
    source_objects:
      description: Objects of the source.
      type: int
    source_bytes:
      description: Their size.
      type: int
    unchanged_objects:
      description: Objects whose copies are as they should be.
      type: int
    copy_objects:
      description: Objects to copy.
      type: int
    copy_bytes:
      description: Their size.
      type: int
    extra_objects:
      description: Objects of the destination that the source does not hold any more.
      type: int
    delete_objects:
      description: Those of them that are to be deleted.
      type: int
copied_objects:
  description: Objects that were copied and found again afterwards.
  returned: always
  type: int
copied_bytes:
  description: Their size.
  returned: always
  type: int
gone_objects:
  description: Objects that were deleted from the source meanwhile.
  returned: always
  type: int
failed_objects:
  description: Objects that could not be copied, or were not found again afterwards.
  returned: always
  type: int
remaining_objects:
  description: Objects that are still to be copied, those that failed included.
  returned: always
  type: int
deleted_objects:
  description: Objects that were deleted from the destination.
  returned: always
  type: int
aborted_uploads:
  description: Unfinished uploads of earlier runs whose parts were freed.
  returned: always
  type: int
errors:
  description: How many objects failed for which reason.
  returned: always
  type: dict
source_versioning:
  description: Whether the source keeps versions, V(on), V(off), or V(unknown) where its server does not tell.
  returned: always
  type: str
source_replication:
  description: Whether the source's own server replicates it, V(on), V(off), or V(unknown) where it does not tell.
  returned: always
  type: str
rows:
  description: Rows of C(storage.objects) for this bucket; null where there was nothing to compare with.
  returned: always
  type: int
missing_rows:
  description: Rows that have no object in the source.
  returned: always
  type: int
recoverable_rows:
  description: Those of them whose object is still in the destination.
  returned: always
  type: int
orphan_objects:
  description: Objects of the source that have no row.
  returned: always
  type: int
differing_rows:
  description: Rows whose object has another size or ETag.
  returned: always
  type: int
named:
  description: Some of the objects that the figures count, at most 20 of each kind.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: V(failed), V(missing), V(orphan) or V(differing).
      type: str
    name:
      description: Its key, or a digest of it without O(show_keys).
      type: str
    error:
      description: Why it failed; empty for the other kinds.
      type: str
duration_s:
  description: Seconds in all.
  returned: always
  type: float
rate_bytes_s:
  description: Bytes copied in a second, while copying.
  returned: always
  type: float
"""

import itertools
import threading
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import mirror as driver
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import mirror as rules
from ansible.module_utils.runbook.rules.status import Check, Status

#: Options of the destination that the source has too.
S3_OPTIONS = tuple(s3.argument_spec())
BOUNDS = {"jobs": (1, 64), "deadline_s": (1, 604_800), "max_delete": (0, 2**63 - 1), "max_delete_percent": (0, 100)}
BOUNDS |= dict.fromkeys(("max_objects", "max_bytes"), (0, 2**63 - 1))
#: After so many failures in a row the server, and not the objects, is at fault. What is an object's own is not counted.
FAILURES_IN_A_ROW = 20
#: Differences from storage.objects that are looked at again, because files came and went meanwhile.
DOUBTS = 1000
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 300_000


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    target = s3.argument_spec()
    return (
        postgres.argument_spec()
        | target
        | {f"source_{option}": target[option] for option in S3_OPTIONS}
        | {
            "prefix": {"type": "str", "default": ""},
            "environment": {"type": "str", "required": True},
            "source_prefix": {"type": "str", "default": ""},
            "previous_sources": {"type": "list", "elements": "str", "default": []},
            "jobs": {"type": "int", "default": 16},
            "delete": {"type": "bool", "default": False},
            "max_delete": {"type": "int", "default": 1000},
            "max_delete_percent": {"type": "int", "default": 50},
            "max_objects": {"type": "int"},
            "max_bytes": {"type": "int"},
            "deadline_s": {"type": "int", "default": 14400},
            "expect_source_versioning": {"type": "bool", "default": False},
            "expect_source_replication": {"type": "bool", "default": False},
            "storage_bucket_id": {"type": "str"},
            "show_keys": {"type": "bool", "default": False},
        }
    )


def source_store(params: dict[str, Any], connections: int) -> s3.Store:
    """The source, from the options that begin with ``source_``."""
    try:
        return s3.Store.from_params(
            {option: params[f"source_{option}"] for option in S3_OPTIONS}, connections=connections
        )
    except RunbookError as error:
        raise RunbookError(f"The source: {error.message}", **error.context) from None


class Run:
    """One run, from the listings to the last look."""

    def __init__(self, context: Context, table: driver.Table) -> None:
        self.context = context
        self.params = params = context.params
        self.table = table
        self.clock = Clock(params["deadline_s"])
        # Objects and parts of objects are copied by as many threads each.
        self.target = s3.Store.from_params(params, connections=2 * params["jobs"])
        self.source = source_store(params, 2 * params["jobs"])
        same_place = ("region", "endpoint_url", "profile", "access_key", "secret_key", "session_token")
        self.copier = driver.Copier(
            self.source,
            self.target,
            params["source_prefix"],
            params["prefix"],
            server_side=all((params[each] or None) == (params[f"source_{each}"] or None) for each in same_place),
            jobs=params["jobs"],
        )
        self.plan = rules.Plan()
        self.seen = rules.Seen()
        self.errors: Counter[str] = Counter()
        self.named: list[dict[str, str]] = []
        self.failures_in_a_row = 0
        self.hopeless = ""
        self.deleted = 0
        self.aborted = 0
        self.copying_s = 0.0
        self.written = False

    # Reading ----------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See that both buckets are what they should be, before anything else."""
        params = self.params
        rules.refuse_overlap(
            same_endpoint=(params["endpoint_url"] or None) == (params["source_endpoint_url"] or None),
            source_bucket=self.source.bucket, source_prefix=params["source_prefix"],
            bucket=self.target.bucket, prefix=params["prefix"],
        )  # fmt: skip
        permits.require_bucket(self.context.run, self.target, params["environment"])
        self.check_origin()
        rules.require_versions(self.target.bucket, driver.versioning(self.target))
        self.seen.versioning = driver.versioning(self.source)
        self.seen.replication = driver.replication(self.source)

    def check_origin(self) -> str:
        """See that nobody else's copies lie where these go; whose do, empty where nobody wrote it down."""
        return rules.check_origins(
            [self.target.read(each.key, most_bytes=rules.MAX_ORIGIN_BYTES)
             for each in self.target.entries(rules.ORIGINS)],
            prefix=self.params["prefix"], source=self.name_of_source, previous=self.params["previous_sources"],
            where=self.target.url(""),
        )  # fmt: skip

    @property
    def name_of_source(self) -> str:
        """The source as it is written down."""
        params = self.params
        return rules.source_name(params["source_endpoint_url"], self.source.bucket, params["source_prefix"])

    def claim(self) -> None:
        """Write down whose copies these are, before the first is written or deleted.

        :raises RunbookError: somebody else did so this moment
        """
        here = self.check_origin()
        if here == self.name_of_source:
            return
        key = rules.origin_key(self.params["prefix"])
        text = rules.origin_document(self.params["prefix"], self.name_of_source)
        try:
            self.target.put(key, text, if_absent=not here)
        except RunbookError as error:
            if error.context.get("s3_code") not in s3.TAKEN:
                raise
            raise RunbookError(
                f"prefix: another mirror began to write to {self.target.url(self.params['prefix'])} this moment; give "
                "each a file_mirror_prefix of its own."
            ) from None

    def read(self) -> None:
        """List both buckets."""
        params = self.params

        def tell(seen: int) -> None:
            self.context.progress.update("listing", seen, None, "objects")

        driver.list_into(
            self.table,
            {
                "source": driver.pages(self.source, params["source_prefix"]),
                "copy": driver.pages(self.target, params["prefix"]),
            },
            tell,
        )

    def make_plan(self) -> None:
        """Compare the listings, and ask where they cannot tell."""
        params, table, plan = self.params, self.table, self.plan
        verdicts = ((source, rules.compare(source, copy)) for source, copy in table.pairs())
        table.plan((source, verdict == "ask") for source, verdict in verdicts if verdict != "same")
        self.ask()
        plan.source_objects, plan.source_bytes = table.one("SELECT count(*), coalesce(sum(size), 0) FROM source")
        plan.copy_objects, plan.copy_bytes = table.one("SELECT count(*), coalesce(sum(size), 0) FROM work")
        plan.unchanged_objects = plan.source_objects - plan.copy_objects
        (plan.extra_objects,) = table.one(f"SELECT count(*) {driver.EXTRA}")
        plan.delete_objects = plan.extra_objects if params["delete"] else 0
        rules.refuse(
            plan,
            max_objects=params["max_objects"],
            max_bytes=params["max_bytes"],
            max_delete=params["max_delete"],
            max_delete_percent=params["max_delete_percent"],
        )

    def ask(self) -> None:
        """Ask copies with another ETag which object they were made from."""
        (total,) = self.table.one("SELECT count(*) FROM work WHERE ask")
        asked = itertools.count(1)

        def done(entry: rules.Entry, same: bool) -> bool:
            self.table.asked(entry.key, same=same)
            self.context.progress.update("comparing", next(asked), total, "objects")
            return True

        if total:
            driver.run_queue(
                self.table.work(ask=True), self.copier.same,
                jobs=self.params["jobs"], done=done, clock=self.clock, stopped=threading.Event(), tell=lambda: None,
            )  # fmt: skip
        if self.table.one("SELECT count(*) FROM work WHERE ask")[0]:
            raise RunbookError(f"deadline_s: {self.params['deadline_s']} were too few to compare; raise it.")

    def reconcile(self) -> None:
        """Compare the source with the rows of storage.objects, where there is such a table."""
        params = self.params
        if not (params["dsn"] or params["login_host"]):
            return
        with postgres.Session(
            postgres.Target.from_params(params),
            lock_timeout_ms=LOCK_TIMEOUT_MS,
            statement_timeout_ms=STATEMENT_TIMEOUT_MS,
            purpose="s3_mirror",
        ) as session:
            stored = driver.StorageRows(session, params["storage_bucket_id"] or self.source.bucket)
            if not stored.are_there():
                return
            driver.store_rows(self.table, stored.all(), params["source_prefix"])
            doubts = [
                key
                for where in driver.DIFFERENCES.values()
                for (key,) in self.table.rows(f"SELECT key {where} LIMIT {DOUBTS}")
            ]
            # Files came and went between the listing and the query.
            driver.look_again(self.table, doubts, self.source_now)
            self.table.forget("stored", doubts)
            names = [params["source_prefix"] + key for key in doubts]
            driver.store_rows(self.table, stored.some(names), params["source_prefix"])
        for name, value in driver.differences(self.table).items():
            setattr(self.seen, name, value)
        for kind, key in driver.differing_keys(self.table, rules.NAMED):
            self.name(kind, key)

    def source_now(self, key: str) -> rules.Entry | None:
        """An object of the source as it is now."""
        head = driver.look(self.source, self.params["source_prefix"] + key)
        return None if head is None else rules.Entry(key, int(head["ContentLength"]), rules.bare_etag(head["ETag"]))

    # Writing ----------------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Copy what is to be copied, then see that it is there."""
        started, total = time.monotonic(), self.plan.copy_bytes
        self.aborted = driver.abort_leftovers(
            self.target, self.params["prefix"], older_than_s=self.params["deadline_s"]
        )

        def tell(*, final: bool = False) -> None:
            done = min(self.copier.bytes_done, total)
            self.context.progress.update("copying files", done, total, "bytes", final=final)

        try:
            if self.plan.copy_objects:
                self.written = True
                driver.run_queue(
                    self.table.work(ask=False), self.act,
                    jobs=self.params["jobs"], done=self.done, clock=self.clock, stopped=self.copier.stopped, tell=tell,
                )  # fmt: skip
        finally:
            self.copier.close()
            self.copying_s = time.monotonic() - started
            tell(final=True)
        if self.plan.copy_objects and not self.hopeless:
            self.prove()

    def act(self, entry: rules.Entry) -> driver.Outcome:
        """Copy one object, in a thread of its own."""
        if rules.too_long(entry.key, self.params["prefix"]):
            return driver.Outcome(entry.key, "failed", error="KeyTooLongError", own=True)
        return self.copier.copy(entry)

    def done(self, entry: rules.Entry, outcome: driver.Outcome) -> bool:
        """Note what became of one object; whether it makes sense to go on."""
        self.table.done(entry.key, outcome.state, outcome.made)
        if outcome.state != "failed":
            self.failures_in_a_row = 0
            return True
        self.fail(entry.key, outcome.error)
        if outcome.own:
            return not self.hopeless
        self.failures_in_a_row += 1
        if outcome.hopeless or self.failures_in_a_row >= FAILURES_IN_A_ROW:
            self.hopeless = self.hopeless or outcome.error
        return not self.hopeless

    def prove(self) -> None:
        """List the destination again: each copy is there, as it was written."""
        listing = driver.pages(self.target, self.params["prefix"])
        driver.list_into(
            self.table, {"proof": listing}, lambda seen: self.context.progress.update("proving", seen, None, "objects")
        )
        for (key,) in list(self.table.rows(f"SELECT w.key {driver.LOST}")):
            self.table.done(key, "failed")
            self.fail(key, "NotFoundAfterwards")

    def delete(self) -> None:
        """Delete from the destination what the source does not hold any more."""
        if not self.plan.delete_objects or self.remaining():
            return
        keys = (self.params["prefix"] + key for (key,) in self.table.rows(f"SELECT c.key {driver.EXTRA}"))
        self.written = True
        for deleted in driver.delete(self.target, keys):
            self.deleted = deleted
            self.context.progress.update("deleting", self.deleted, self.plan.delete_objects, "objects")

    # Telling ----------------------------------------------------------------------------------------------------------

    def fail(self, key: str, error: str) -> None:
        """Count an object that failed."""
        self.errors[error] += 1
        if self.errors.total() <= rules.NAMED:
            self.name("failed", key, error)

    def name(self, kind: str, key: str, error: str = "") -> None:
        """Name an object in the result, as the source does."""
        key = self.params["source_prefix"] + key
        self.named.append({
            "kind": kind, "name": rules.name_of(key, show=self.params["show_keys"]), "error": error
        })  # fmt: skip

    def count(self, state: str) -> int:
        """Objects with which it came to this."""
        return int(self.table.one("SELECT count(*) FROM work WHERE state = ?", state)[0])

    def remaining(self) -> int:
        """Objects that are still to be copied."""
        return int(self.table.one("SELECT count(*) FROM work WHERE state IS NULL OR state = 'failed'")[0])

    def figures(self) -> dict[str, Any]:
        """The result without its verdict."""
        (copied_bytes,) = self.table.one("SELECT coalesce(sum(made_size), 0) FROM work WHERE state = 'copied'")
        shown = {"diff": {"prepared": rules.describe(self.plan, str(self.source), str(self.target))}}
        return (shown if self.context.diff else {}) | {
            "changed": self.written and bool(self.count("copied") or self.deleted),
            "source": f"{self.source}/{self.params['source_prefix']}",
            "destination": f"{self.target}/{self.params['prefix']}",
            "plan": asdict(self.plan),
            "copied_objects": self.count("copied"),
            "copied_bytes": copied_bytes,
            "gone_objects": self.count("gone"),
            "failed_objects": self.count("failed"),
            "remaining_objects": self.remaining(),
            "deleted_objects": self.deleted,
            "aborted_uploads": self.aborted,
            "errors": dict(self.errors),
            "source_versioning": self.seen.versioning,
            "source_replication": self.seen.replication,
            "rows": self.seen.rows,
            "missing_rows": self.seen.missing_rows,
            "recoverable_rows": self.seen.recoverable_rows,
            "orphan_objects": self.seen.orphan_objects,
            "differing_rows": self.seen.differing_rows,
            "named": self.named,
            "duration_s": round(self.clock.passed_s(), 3),
            "rate_bytes_s": round(copied_bytes / self.copying_s, 1) if self.copying_s else 0.0,
        }

    def verdict(self) -> dict[str, Any]:
        """The result, or a failure with it.

        :raises RunbookError: something remains to be done, or stands against the source
        """
        figures = self.figures()
        done = rules.sentence(figures, check_mode=self.context.check_mode)
        copied = Check.ok("copied", done)
        if not self.context.check_mode:
            copied = rules.judge_copied(
                figures, hopeless=self.hopeless, late=self.clock.is_over(), deadline_s=self.params["deadline_s"]
            )
        checks = [
            copied,
            *rules.judge(
                self.seen,
                expect_versioning=self.params["expect_source_versioning"],
                expect_replication=self.params["expect_source_replication"],
            ),
        ]
        bad = [check for check in checks if check.status != Status.OK]
        for check in bad:
            if check.status == Status.UNKNOWN:
                self.context.warn(check.msg)
        msg = " ".join([done, *(check.msg for check in bad)])
        # The copies are made, whatever the source's server does not tell.
        return self.context.conclude(checks, msg=msg, fail_on_unknown=False, **figures)


def core(context: Context) -> dict[str, Any]:
    """Bring the destination up to date."""
    context.require_bounds(BOUNDS)
    table = driver.Table()
    try:
        run = Run(context, table)
        run.look()
        run.read()
        try:
            run.reconcile()
        except UnreachableError as error:
            # A database that is gone is when the copies matter.
            run.seen.unread = error.message
        run.make_plan()
        if context.check_mode:
            return run.verdict() | {"changed": not run.plan.nothing}
        try:
            if not run.plan.nothing:
                run.claim()
            run.copy()
            run.delete()
        except RunbookError as error:
            figures = run.figures()
            done = rules.sentence(figures, check_mode=False)
            raise RunbookError(f"{error.message} {done}", **(figures | error.context)) from None
        return run.verdict()
    finally:
        table.close()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="s3_mirror", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
