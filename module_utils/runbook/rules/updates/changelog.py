"""What a package's changelog says of the versions that an update skips, and of what breaks in them.

There is no format that all keep. What is read is what most have in common: Markdown, with a heading for each version,
and below it a heading or lines that speak of what breaks: https://keepachangelog.com, https://www.conventionalcommits.org
"""

from __future__ import annotations

import re

from ansible.module_utils.runbook.rules.updates import versions

#: Names under which packages ship it, as they are on a disk that knows no case.
NAMES = ("changelog.md", "changes.md", "history.md", "changelog", "changelog.txt", "releases.md")
#: As much as somebody reads before a decision, and a report can show.
MAX_LINES = 60
MAX_CHARS = 4000

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_VERSION = re.compile(r"(?<![\w.])v?(\d+\.\d+(?:\.\d+)?(?:-[0-9A-Za-z.-]+)?)")
_BREAKS = re.compile(
    r"break|migrat|removed|dropped|no longer|incompatible|upgrad(?:e|ing) (?:guide|from)", re.IGNORECASE
)


def breaking(text: str, after: str, upto: str) -> str:
    """What breaks between two versions; all that changed where nothing is called that, empty where neither is told.

    :param after: the version that is there
    :param upto: the version that comes
    """
    told = _sections(text, after, upto)
    chosen: list[str] = []
    for heading, lines in told:
        some = _breaking_lines(lines)
        if some:
            chosen += [heading, *some, ""]
    if not chosen:
        chosen = [line for heading, lines in told for line in (heading, *lines, "")]
    return _cut(chosen)


def _sections(text: str, after: str, upto: str) -> list[tuple[str, list[str]]]:
    """The sections of the versions in between, each with its heading."""
    found: list[tuple[str, list[str]]] = []
    low, high = versions.key(after), versions.key(upto)
    inside, level = False, 0
    for line in text.splitlines():
        heading = _HEADING.match(line)
        named = _VERSION.search(heading[2]) if heading else None
        if heading and named and (not inside or len(heading[1]) <= max(level, 2)):
            key = versions.key(named[1])
            inside = bool(key and low and high and low < key <= high)
            level = len(heading[1])
            if inside:
                found.append((line, []))
        elif heading and len(heading[1]) < level:
            inside = False
        elif inside:
            found[-1][1].append(line)
    return found


def _breaking_lines(lines: list[str]) -> list[str]:
    """What stands below a heading that speaks of what breaks, and every other line that does."""
    chosen: list[str] = []
    level = 0
    for line in lines:
        heading = _HEADING.match(line)
        if heading:
            # A heading below one that speaks of it belongs to it.
            if not (level and len(heading[1]) > level):
                level = len(heading[1]) if _BREAKS.search(heading[2]) else 0
            if level:
                chosen.append(line)
        elif level or _BREAKS.search(line):
            chosen.append(line)
    return chosen if any(line.strip() and not _HEADING.match(line) for line in chosen) else []


def _cut(lines: list[str]) -> str:
    text = "\n".join(line.rstrip() for line in lines)
    kept = re.sub(r"\n{3,}", "\n\n", text).strip().splitlines()
    short = "\n".join(kept[:MAX_LINES])[:MAX_CHARS]
    return short if len(kept) <= MAX_LINES and len(short) < MAX_CHARS else f"{short}\n(more in the changelog itself)"
