"""What was archived, as results show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.rules.logs.chain import Link


def by_stream(links: Iterable[Link]) -> list[dict[str, Any]]:
    """One line a stream: archives, lines, bytes before and after compression, first and last time."""
    found: dict[str, dict[str, Any]] = {}
    for link in links:
        if link.content is None:
            continue
        content = link.content
        line = found.setdefault(
            link.stream,
            {"stream": link.stream, "class": link.retention_class, "archives": 0, "lines": 0, "content_bytes": 0,
             "size_bytes": 0, "first_at": None, "last_at": None},
        )  # fmt: skip
        line["archives"] += 1
        line["lines"] += content.lines
        line["content_bytes"] += content.content_bytes
        line["size_bytes"] += content.size_bytes
        for name, best in (("first_at", min), ("last_at", max)):
            at = getattr(content, name)
            if at is not None:
                line[name] = best(filter(None, (line[name], at.isoformat())))
    return [found[name] for name in sorted(found)]


def totals(streams: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The figures of all streams together."""
    known = list(streams)
    return {
        "archives": sum(each["archives"] for each in known),
        "lines": sum(each["lines"] for each in known),
        "content_bytes": sum(each["content_bytes"] for each in known),
        "size_bytes": sum(each["size_bytes"] for each in known),
    }


def sentence(figures: dict[str, int], where: str, *, planned: bool) -> str:
    """What was archived, in one sentence."""
    if not figures["archives"] and not figures["content_bytes"]:
        return f"Nothing is to be archived in {where}." if planned else f"Nothing new was archived in {where}."
    if planned:
        return f"Would archive {size(figures['content_bytes'])} in {where}."
    return (
        f"Archived {count(figures['lines'], 'line')} ({size(figures['content_bytes'])}, compressed "
        f"{size(figures['size_bytes'])}) in {count(figures['archives'], 'archive')} of {where}, and read them back."
    )
