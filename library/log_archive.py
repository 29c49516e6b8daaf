#!/usr/bin/python
"""Module log_archive: archive rotated log files, and delete those whose time on the host is over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_archive
short_description: Archive the rotated log files of a host
description:
  - Reads the files that M(log_rotate) rotated, compresses them by zstd on the way, uploads them, reads each archive
    back and compares it, and writes its link into the chain. Nothing is stored on this machine's disk.
  - Deletes a file from its host when it is older than C(hot_days) of its class, every byte of it is archived, its
    archives are in the bucket, and it still has the bytes that were archived; never one that somebody has open for
    writing, and never one of a class that nobody knows.
  - A file that a writer keeps open is archived up to its last whole line, and goes on where that ended. So no line is
    lost and none is doubled, whenever a run is stopped.
options:
  files:
    description:
      - The streams, as M(log_rotate) has them.
    type: list
    elements: dict
    required: true
  classes:
    description:
      - Classes of retention by name, each with C(hot_days), C(archive_days) (a number, or V(forever)), and
        C(shorter_because) where C(audit), C(access) or C(evidence) is kept for less than six years.
    type: dict
    required: true
  ssh:
    description:
      - Where the files are, as ssh(1) has it. This machine if unset.
    type: str
    default: ''
  become:
    description:
      - Whether everything is done as root there, by C(sudo -n).
    type: bool
    default: false
  max_archive_bytes:
    description:
      - A file of more bytes becomes several archives, cut between lines. What a kill throws away is no more than this,
        and what a search reads for one line. 4,096 to 16 GiB.
    type: int
    default: 134217728
  deadline_s:
    description:
      - Time limit in seconds. After it no further file is begun. 1 to 604,800.
    type: int
    default: 14400
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state]
attributes:
  check_mode: {support: full, description: "Lists, and returns the plan of the real run. Writes and deletes nothing."}
  diff_mode: {support: full, description: Shows the plan.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Archive the logs of nginx
  log_archive:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: web
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
    ssh: runbook@web.example.com
    become: true
    files:
      - {name: nginx-access, class: access, paths: [/var/log/nginx/access.log]}
    classes:
      access: {hot_days: 30, archive_days: 2192}
"""

RETURN = r"""
msg: {description: "What was archived and deleted, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks:
  description: C(classes) by stream, and C(writer) and C(deleted) by file where something is wrong.
  returned: when the host answered
  type: list
  elements: dict
streams:
  description:
    - What was archived, with C(stream), C(class), C(archives), C(lines), C(content_bytes), C(size_bytes), C(first_at)
      and C(last_at).
  returned: when the host answered
  type: list
  elements: dict
archives: {description: "Archives that were made.", returned: when the host answered, type: int}
lines: {description: "Their lines.", returned: when the host answered, type: int}
content_bytes:
  description:
    - Their bytes, before compression; in check mode, what would be archived.
  returned: when the host answered
  type: int
size_bytes: {description: "Their bytes in the bucket.", returned: when the host answered, type: int}
deleted:
  description:
    - Files that were deleted from the host, or would be.
  returned: when the host answered
  type: list
  elements: str
deleted_files: {description: "How many.", returned: when the host answered, type: int}
deleted_bytes: {description: "Their bytes.", returned: when the host answered, type: int}
duration_s: {description: "Seconds in all.", returned: when the host answered, type: float}
"""


from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.drivers.logs.host import Host
from ansible.module_utils.runbook.drivers.s3.stream import Programs
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.logs import chain, files, streams, summary
from ansible.module_utils.runbook.rules.status import Check, worst
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.logs.files import Files, Found, Part

#: A writer opens its log again soon after a rotation.
PATIENCE = timedelta(hours=1)
BOUNDS = {"deadline_s": (1, 604_800), "max_archive_bytes": (4096, 16 << 30)}
#: So long before a file was written to last its archives are looked for; clocks differ.
SLACK = timedelta(days=1)


class Work:
    """One run, from the listing to the last deletion."""

    def __init__(self, context: Context) -> None:
        self.context, self.params = context, context.params
        context.require_bounds(BOUNDS)
        self.streams = files.read(self.params["files"])
        if not self.streams:
            raise RunbookError("files: it is empty; name the log files.")
        self.classes = streams.classes(self.params["classes"])
        self.archive = driver.Archive.from_params(context.params, context.run, writes=True, hide=context.hide)
        self.host = Host(self.params["ssh"], become=self.params["become"])
        self.clock = Clock(self.params["deadline_s"])
        self.checks: list[Check] = []
        self.deleted: list[Found] = []
        #: Archives of each file.
        self.archived: dict[str, list[chain.Content]] = {}

    def run(self) -> dict[str, Any]:
        """Archive, then delete."""
        found = self._found()
        self._judge_classes()
        self._learn([file for _stream, file in found])
        intake = driver.Intake(self.archive, self._tell)
        self.total = sum(file.size_bytes - files.covered(self._done(file)) for _stream, file in found)
        failure = None
        try:
            if not self.context.check_mode:
                programs = Programs()
                try:
                    for stream, file in found:
                        self._take(intake, programs, stream, file)
                    intake.finish()
                finally:
                    programs.kill()
                    intake.close()
            for stream, file in found:
                self._leave(stream, file)
        except RunbookError as error:
            failure = error
        return self._result(intake, failure)

    def _found(self) -> list[tuple[Files, Found]]:
        """Rotated files, the oldest first."""
        found: dict[str, tuple[Files, Found]] = {}
        for stream in self.streams:
            for file in self.host.listing(stream.rotated):
                if file.is_rotated:
                    found.setdefault(file.path, (stream, file))
        return sorted(found.values(), key=lambda each: (each[1].modified_ns, each[1].path))

    def _judge_classes(self) -> None:
        for stream in self.streams:
            if stream.retention_class not in self.classes:
                self.checks.append(
                    Check.unknown(
                        "classes",
                        f"There is no class {stream.retention_class!r}, so nothing of it is ever deleted; add it to "
                        "classes.",
                        stream.name,
                    )
                )
            else:
                self.checks.append(Check.ok("classes", subject=stream.name))

    def _learn(self, found: list[Found]) -> None:
        """Which parts of the files are archived already."""
        if not found:
            self.archive.head()
            return
        since = _moment(min(file.modified_ns for file in found)) - SLACK
        for link in chain.standing(self.archive.links(since)):
            self._archived(link)

    def _archived(self, link: chain.Link) -> None:
        if link.content is not None and link.content.source.get("kind") == "file":
            self.archived.setdefault(str(link.content.source["path"]), []).append(link.content)

    def _done(self, file: Found) -> list[Part]:
        return files.parts([(each.source, each.content_sha256) for each in self.archived.get(file.path, [])])

    def _tell(self, done: int) -> None:
        self.context.progress.update("archive logs", done, self.total, "bytes")

    def _take(self, intake: driver.Intake, programs: Programs, stream: Files, file: Found) -> None:
        """Archive what is new of a file, part by part."""
        # Whose writers nobody may know is taken for closed once it was left alone for long.
        is_old = self.archive.now - _moment(file.modified_ns) > PATIENCE
        whole = file.writers == "no" or (file.writers == "untold" and is_old)
        if file.writers == "yes" and is_old:
            self.checks.append(
                Check.breach(
                    "writer",
                    "It was rotated, and somebody still has it open for writing; tell the writer to open its log again "
                    f"in postrotate of {stream.name}.",
                    file.path,
                )
            )
        start = files.covered(self._done(file))
        while start < file.size_bytes:
            self.clock.check("what is archived stays; run again, and the next run goes on")
            end = self.host.cut(file, start, self.params["max_archive_bytes"], whole=whole)
            if end <= start:
                break
            origin = {"kind": "file", "path": file.path, "start": start, "end": end}
            source = self.host.read(programs, file, start, end)
            content = intake.take(
                stream.name, stream.retention_class, source, origin, _moment(file.modified_ns), self._archived
            )
            if content.content_bytes != end - start:
                raise RunbookError(f"{file.path} was read as {content.content_bytes} bytes in place of {end - start}.")
            start = end

    def _leave(self, stream: Files, file: Found) -> None:
        """Delete a file from its host, if its time there is over and it is archived."""
        known = self.classes.get(stream.retention_class)
        parts = self._done(file)
        if not streams.is_cool(_moment(file.modified_ns), known, self.archive.now):
            return
        if files.covered(parts) != file.size_bytes:
            # In check mode nothing is archived yet; else a writer has it open, which is told already.
            if self.context.check_mode:
                self.deleted.append(file)
            return
        if not self.context.check_mode:
            are_there = all(self.archive.is_there(content) for content in self.archived[file.path])
            why = self.host.delete(file, parts) if are_there else "an archive of it is gone from the bucket"
            if why:
                self.checks.append(Check.breach("deleted", f"It is archived, and was not deleted: {why}.", file.path))
                return
        self.deleted.append(file)

    def _result(self, intake: driver.Intake, failure: RunbookError | None) -> dict[str, Any]:
        lines = summary.by_stream(intake.links)
        figures = summary.totals(lines)
        planned = self.context.check_mode
        if planned:
            figures["content_bytes"] = self.total
        facts: dict[str, Any] = figures | {
            "changed": bool(intake.links or self.deleted or (planned and self.total)),
            "streams": lines,
            "deleted": [file.path for file in self.deleted],
            "deleted_files": len(self.deleted),
            "deleted_bytes": sum(file.size_bytes for file in self.deleted),
            "duration_s": round(self.clock.passed_s(), 3),
        }
        if self.context.diff:
            facts["diff"] = {"prepared": as_lines([f"delete {file.path} from its host" for file in self.deleted])}
        msg = summary.sentence(figures, self.archive.url, planned=planned)
        if self.deleted:
            would = "would be " if planned else ""
            msg += f" {count(len(self.deleted), 'file')} ({size(facts['deleted_bytes'])}) {would}deleted from the host."
        if failure is not None:
            checks = [check.result() for check in self.checks]
            raise RunbookError(
                f"{failure.message} {msg}", **(facts | {"status": failure.status, "checks": checks}),
            )  # fmt: skip
        bad = next((check for check in self.checks if check.status == worst(each.status for each in self.checks)), None)
        if bad is not None and bad.msg:
            msg = f"{bad.subject}: {bad.msg} {msg}"
        return self.context.conclude(self.checks, msg=msg, **facts)


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def core(context: Context) -> dict[str, Any]:
    """Archive, then delete."""
    return Work(context).run()


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_archive",
        argument_spec=driver.argument_spec()
        | {
            "files": {"type": "list", "elements": "dict", "required": True},
            "classes": {"type": "dict", "required": True},
            "ssh": {"type": "str", "default": ""},
            "become": {"type": "bool", "default": False},
            "max_archive_bytes": {"type": "int", "default": 128 << 20},
            "deadline_s": {"type": "int", "default": 14400},
        },
    )


if __name__ == "__main__":
    main()
