"""What ``pnpm audit --json`` says. Its exit code says nothing: it is 1 where something was found and where it failed.

Seen on pnpm 11 and 12: a success is an object with ``advisories``; a failure prints ``{"error": {"code", "message"}}``,
a text, or nothing. The counts in ``metadata`` are of before its own filters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.updates.advisories import (
    Advisory,
    least_of_range,
    moment,
    severity,
)
from ansible.module_utils.runbook.rules.updates.packages import NPM, Package

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "pnpm audit"
#: Older ones ask an endpoint that npm retired in 2026.
LEAST_MAJOR = 11
_MAX_SAID = 200


def parse(stdout: str, code: int) -> list[Advisory]:
    """The advisories of one run, for each version that it found.

    :param code: the exit code
    :raises RunbookError: it is no result; the status is ``unknown``
    """
    try:
        said = json.loads(stdout)
    except ValueError:
        raise _no_result(f"exit code {code}, and {_quoted(stdout)} in place of JSON") from None
    found = said.get("advisories") if isinstance(said, Mapping) else None
    if not isinstance(found, Mapping) or "error" in said:
        raise _no_result(_why(said) or f"exit code {code}, and no advisories in its answer")
    if code not in (0, 1):
        raise _no_result(f"exit code {code}")
    return [advisory for number, each in found.items() for advisory in _advisories(str(number), each)]


def _advisories(number: str, said: object) -> Iterator[Advisory]:
    if not isinstance(said, Mapping) or not isinstance(said.get("module_name"), str):
        raise _no_result(f"advisory {number} names no module")
    findings = said.get("findings")
    of = {str(each["version"]) for each in findings or () if isinstance(each, Mapping) and each.get("version")}
    if not of:
        raise _no_result(f"advisory {number} of {said['module_name']} says nothing of the version that it found")
    name = str(said.get("github_advisory_id") or str(said.get("url") or "").rpartition("/")[2] or f"NPM-{number:0>4}")
    for version in sorted(of):
        yield Advisory(
            id=name,
            aliases=frozenset(str(each) for each in said.get("cves") or ()),
            package=Package(NPM, said["module_name"], version),
            summary=" ".join(str(said.get("title") or "").split()),
            severity=severity(said.get("severity")),
            published=moment(said.get("created")),
            fixed=least_of_range(version, said.get("patched_versions")),
            sources=(SOURCE,),
        )


def _why(said: Any) -> str:
    """What a failure says of itself."""
    error = said.get("error") if isinstance(said, Mapping) else None
    if not isinstance(error, Mapping):
        return ""
    parts = [str(error[key]) for key in ("code", "message", "summary") if error.get(key)]
    return _quoted(": ".join(parts))


def _quoted(text: str) -> str:
    one_line = " ".join(text.split())
    return f"{one_line[:_MAX_SAID]!r}" if one_line else "nothing"


def _no_result(why: str) -> RunbookError:
    return RunbookError(
        f"pnpm audit: no result ({why}); see that this machine reaches the registry, and that pnpm is "
        f"{LEAST_MAJOR} or newer.",
        status=Status.UNKNOWN,
        code="no_result",
    )
