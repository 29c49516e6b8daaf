#!/usr/bin/python
"""Module log_archive_expire: delete log archives whose time is over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_archive_expire
short_description: Delete log archives whose time is over
description:
  - Deletes the archives that are older than C(archive_days) of their class. The age is counted from the last line, or
    from the day of archiving where that is later. Of the class that an archive was made under and the one that its
    stream has now, the longer counts.
  - Never deletes what a legal hold covers, nor what has a class that nobody knows.
  - The decision is written into the chain before anything is deleted, with the reason; what a killed run left is
    deleted by the next one. In a bucket with versions the objects get delete markers, and stay as old versions until a
    rule of its lifecycle removes them.
  - Objects without a link, which a killed run left, are deleted after two days.
options:
  classes:
    description:
      - Classes of retention by name, as M(log_archive) has them.
    type: dict
    required: true
  streams:
    description:
      - The class that each stream has now, by the stream's name.
    type: dict
    default: {}
  legal_holds:
    description:
      - What must not be deleted, each with C(name) and C(reason), and C(streams), C(since) and C(until) where it does
        not cover all lines of all streams. A stream that neither the archive nor O(streams) has is refused, as a hold
        that is misspelt would hold nothing.
    type: list
    elements: dict
    default: []
  max_expire_percent:
    description:
      - Fail without a change if more than this percentage of the archives would be deleted, and more than 31 of them; a
        wrong class looks like that. 1 to 100.
    type: int
    default: 50
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state]
attributes:
  check_mode: {support: full, description: Returns the plan of the real run. Deletes nothing.}
  diff_mode: {support: full, description: Shows the plan.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Delete what is older than a year, and keep what a court asked for
  log_archive_expire:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: web
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
    classes:
      operational: {hot_days: 30, archive_days: 365}
    legal_holds:
      - {name: case-17, reason: letter of 2026-10-02, streams: [nginx-access], since: "2026-01-01T00:00:00Z"}
"""

RETURN = r"""
msg: {description: "What was deleted, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), or V(unknown) where a class is not known.", returned: always, type: str}
checks: {description: "C(classes), by stream.", returned: success, type: list, elements: dict}
expired:
  description:
    - Links whose archives were deleted, or would be, with C(seq), C(stream) and C(reason).
  returned: when the chain could be read
  type: list
  elements: dict
expired_archives: {description: "How many.", returned: when the chain could be read, type: int}
expired_bytes: {description: "Their bytes.", returned: when the chain could be read, type: int}
held_archives:
  description:
    - Archives whose deletion a legal hold stands against, or may one day.
  returned: when the chain could be read
  type: int
kept_archives: {description: "Archives that stay.", returned: when the chain could be read, type: int}
leftovers:
  description:
    - Objects that a killed run left, and that were deleted.
  returned: when the chain could be read
  type: int
aborted_uploads:
  description:
    - Uploads that a killed run left, and that were aborted, or would be; null where they may not be listed.
  returned: when the chain could be read
  type: int
"""

from datetime import timedelta
from typing import Any

from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.logs import chain, streams
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, size

#: A run that uploads is over by then.
LEFT_AFTER = timedelta(days=2)
#: So few are always deleted.
ALWAYS = 31
BOUNDS = {"max_expire_percent": (1, 100)}


def core(context: Context) -> dict[str, Any]:
    """Decide, write the decision down, then delete."""
    params = context.params
    context.require_bounds(BOUNDS)
    known = streams.classes(params["classes"])
    archive = driver.Archive.from_params(context.params, context.run, writes=True, hide=context.hide)
    links = archive.links()
    held = streams.holds(
        params["legal_holds"], {*params["streams"], *(link.stream for link in links if link.kind == "archive")}
    )
    # What is hidden already is a past decision that was carried out.
    gone, _void = chain.settled(links)
    # An archive that does not count holds lines all the same, for as long as its class says.
    stored = [link for link in links if link.kind == "archive" and link.seq not in gone]
    fates = {
        link.seq: streams.fate(
            link, known, held, archive.now, stream_class=str(params["streams"].get(link.stream) or "")
        )
        for link in stored
    }
    due = [link for link in stored if fates[link.seq].is_due]
    objects = {each.key: each for each in archive.objects()}
    left = [
        objects[link.content.key] for link in links if link.content and link.seq in gone and link.content.key in objects
    ]
    linked = {link.content.key for link in links if link.content}
    left += [each for key, each in objects.items() if key not in linked and archive.now - each.modified_at > LEFT_AFTER]
    dead = archive.dead_uploads(begun_before=archive.now - LEFT_AFTER, warn=context.warn)
    facts: dict[str, Any] = {
        "changed": bool(due or left or dead),
        "expired": [{"seq": each.seq, "stream": each.stream, "reason": fates[each.seq].why} for each in due],
        "expired_archives": len(due),
        "expired_bytes": sum(each.content.size_bytes for each in due if each.content),
        "held_archives": sum(any(hold.covers(link) for hold in held) for link in stored),
        "kept_archives": len(stored) - len(due),
        "leftovers": len(left),
        "aborted_uploads": None if dead is None else len(dead),
    }
    if context.diff:
        lines = [f"delete archive {each['seq']} of {each['stream']}: {each['reason']}" for each in facts["expired"]]
        facts["diff"] = {"prepared": as_lines(lines)}
    most = params["max_expire_percent"]
    if len(due) > ALWAYS and 100 * len(due) > most * len(stored):
        raise RunbookError(
            f"max_expire_percent: {len(due)} of {count(len(stored), 'archive')} would be deleted, and at most {most} "
            "% may be; check classes, and raise it for once where that is right.",
            **(facts | {"changed": False}),
        )
    if not context.check_mode:
        if due:
            archive.add(kind="expiry", of=tuple(each.seq for each in due), reason=fates[due[0].seq].why)
        wanted = [objects[each.content.key] for each in due if each.content and each.content.key in objects]
        archive.store.delete([*wanted, *left])
        for each in dead or []:
            archive.store.abort_upload(*each)
    would = "would be " if context.check_mode else ""
    names = {link.stream: link.retention_class for link in stored} | params["streams"]
    checks = [
        Check.ok("classes", subject=stream)
        if name in known
        else Check.unknown("classes", f"There is no class {name!r}, so nothing of it is ever deleted.", stream)
        for stream, name in sorted(names.items())
    ] or [Check.ok("classes", "There is no archive yet.")]
    msg = (
        f"{archive.url}: {count(len(due), 'archive')} ({size(facts['expired_bytes'])}) {would}deleted, "
        f"{facts['kept_archives']:,} kept, {facts['held_archives']:,} of them under a legal hold."
    )
    wrong = next((check for check in checks if check.msg and check.status is Status.UNKNOWN), None)
    return context.conclude(checks, msg=f"{wrong.subject}: {wrong.msg} {msg}" if wrong else msg, **facts)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_archive_expire",
        argument_spec=driver.argument_spec()
        | {
            "classes": {"type": "dict", "required": True},
            "streams": {"type": "dict", "default": {}},
            "legal_holds": {"type": "list", "elements": "dict", "default": []},
            "max_expire_percent": {"type": "int", "default": 50},
        },
    )


if __name__ == "__main__":
    main()
