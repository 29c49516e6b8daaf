#!/usr/bin/python
"""Module log_archive_verify: whether log archives are all there, in order, and as they were written."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_archive_verify
short_description: Check that log archives are all there and as they were written
description:
  - Reads the whole chain. A link that is missing, was edited, replaced or moved is found by its seal and that of the
    link before it, and an end that was cut off by what the state store knows.
  - Lists the objects of all archives whose time is not over, and compares their sizes.
  - Reads back and compares the archives of the last O(read_days) days, and O(sample) of the older ones, each time
    others.
options:
  read_days:
    description:
      - Archives that were made within so many days are read whole, 0 to 36,500.
    type: int
    default: 31
  sample:
    description:
      - So many of the older ones are read, 0 to 100,000.
    type: int
    default: 20
  deadline_s:
    description:
      - Time limit in seconds. After it no further archive is read, and what was not read is V(unknown). 1 to 604,800.
    type: int
    default: 14400
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state]
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check the archives
  log_archive_verify:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: web
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg: {description: "What was checked, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks:
  description:
    - C(chain), C(objects) and C(content).
  returned: when the bucket answered
  type: list
  elements: dict
links: {description: "Links of the chain.", returned: when the bucket answered, type: int}
archives:
  description:
    - Archives that count and whose time is not over.
  returned: when the bucket answered
  type: int
lines: {description: "Their lines.", returned: when the bucket answered, type: int}
content_bytes: {description: "Their bytes before compression.", returned: when the bucket answered, type: int}
size_bytes: {description: "Their bytes in the bucket.", returned: when the bucket answered, type: int}
streams:
  description:
    - The same by stream, as M(log_archive) has it.
  returned: when the bucket answered
  type: list
  elements: dict
read_archives: {description: "Archives that were read and compared.", returned: when the bucket answered, type: int}
read_bytes: {description: "Their bytes in the bucket.", returned: when the bucket answered, type: int}
unlinked_objects:
  description:
    - Objects that no link knows, which a killed run left.
  returned: when the bucket answered
  type: int
last_archive_at: {description: "When the newest archive was made.", returned: when there is one, type: str}
"""

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.logs import chain, summary
from ansible.module_utils.runbook.rules.status import Check, sentence
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = {"read_days": (0, 36_500), "sample": (0, 100_000), "deadline_s": (1, 604_800)}


def judge_chain(archive: driver.Archive, places: Sequence[tuple[int, chain.Link | str]]) -> Check:
    """Whether the chain is whole."""
    head = archive.known_head()
    if head is None:
        if not places:
            return Check.ok("chain", "There is no archive yet.")
        return Check.unknown(
            "chain",
            f"The state store does not know {archive.document}, so nobody can tell whether the end of the chain was "
            "cut off; bring the document back.",
        )
    wrong = list(chain.broken(places, head))
    if wrong:
        more = f" And {len(wrong) - 3} more." if len(wrong) > 3 else ""
        return Check.breach("chain", " ".join(wrong[:3]) + more)
    return Check.ok("chain", f"{count(len(places), 'link')}, each sealed and in its place.")


def judge_objects(found: dict[str, int], standing: Sequence[chain.Link]) -> Check:
    """Whether each archive has its object, with its size."""
    wrong = [
        f"{link.seq} ({link.stream}, {'gone' if link.content.key not in found else 'another size'})"
        for link in standing
        if link.content and found.get(link.content.key) != link.content.size_bytes
    ]
    if wrong:
        return Check.breach(
            "objects",
            f"{count(len(wrong), 'archive')} not as written: link {some(wrong)}; bring back the version that the "
            "bucket "
            "keeps.",
        )
    return Check.ok("objects", f"All {count(len(standing), 'archive')} are there.")


def core(context: Context) -> dict[str, Any]:
    """Read, compare, judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    archive = driver.Archive.from_params(context.params, context.run, writes=False, hide=context.hide)
    clock = Clock(params["deadline_s"])
    places = archive.everything()
    links = [each for _seq, each in places if isinstance(each, chain.Link)]
    standing = chain.standing(links)
    objects = {each.key: each.size_bytes for each in archive.objects()}
    checks = [judge_chain(archive, places), judge_objects(objects, standing)]
    newest = archive.now - timedelta(days=params["read_days"])
    older = [link for link in standing if link.at < newest]
    chosen = [link for link in standing if link.at >= newest]
    chosen += random.sample(older, min(params["sample"], len(older)))
    read, read_bytes, damaged, unread = 0, 0, [], 0
    for link in chosen:
        content = link.content
        if content is None or objects.get(content.key) != content.size_bytes:
            continue
        if clock.is_over():
            unread += 1
            continue
        try:
            archive.read_back(content)
        except RunbookError as error:
            if error.code != "log_archive_damaged":
                raise
            damaged.append(f"{link.seq} ({link.stream})")
        read, read_bytes = read + 1, read_bytes + content.size_bytes
        context.progress.update("read archives back", read, len(chosen), "archives")
    if damaged:
        checks.append(
            Check.breach(
                "content",
                f"{count(len(damaged), 'archive')} damaged: link {some(damaged)}; bring back the version that the "
                "bucket "
                "keeps.",
            )
        )
    elif unread:
        checks.append(Check.unknown("content", f"{count(unread, 'archive')} not read: deadline_s was over; raise it."))
    else:
        checks.append(Check.ok("content", f"{count(read, 'archive')} read back, each as it was written."))
    lines = summary.by_stream(standing)
    latest = [link.at for link in links if link.kind == "archive"][-1:]
    linked = {link.content.key for link in links if link.content}
    facts: dict[str, Any] = summary.totals(lines)
    if latest:
        facts["last_archive_at"] = latest[0].isoformat()
    return context.conclude(
        checks,
        msg=sentence(archive.url, checks),
        links=len(places),
        streams=lines,
        read_archives=read,
        read_bytes=read_bytes,
        unlinked_objects=len(objects.keys() - linked),
        **facts,
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_archive_verify",
        argument_spec=driver.argument_spec()
        | {
            "read_days": {"type": "int", "default": 31},
            "sample": {"type": "int", "default": 20},
            "deadline_s": {"type": "int", "default": 14400},
        },
    )


if __name__ == "__main__":
    main()
