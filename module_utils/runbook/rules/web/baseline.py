"""What is kept of a good run, so that the next one can tell what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import lighthouse
from ansible.module_utils.runbook.rules.words import some

#: Of a page; its causes and addresses are in the record.
_KEPT = ("name", "url", "preset", "figures", "spread", "benchmark")
#: Looks at a page from which on its figures are more than chance.
LEAST_RUNS = 3


def document_name(name: str) -> str:
    """The document of an application in the state store."""
    return f"web/{name}"


def body(
    name: str, pages: Mapping[str, Any], bundle: Mapping[str, Any], measured_at: str, before: Mapping[str, Any] | None
) -> dict[str, Any]:  # fmt: skip
    """The document of two results, of ``lighthouse_info`` and of ``bundle_info``.

    A chunk keeps the least that it ever had, and a page what :func:`lighthouse.best` says, so that many small steps are
    found as one large one is. A page that was not looked at keeps its figures.

    :param before: the document that there is
    :raises RunbookError: one of them is not green, or a page was looked at too seldom
    """
    for option, result in (("pages", pages), ("bundle", bundle)):
        if result.get("status") != Status.OK:
            raise RunbookError(
                f"{option}: the result is {result.get('status') or 'none'}, and only a green run is what the next one "
                "is compared with; nothing was kept."
            )
    seen = _dicts(pages.get("pages"))
    few = [str(each.get("name")) for each in seen if int(each.get("good_runs") or 0) < LEAST_RUNS]
    if few:
        raise RunbookError(
            f"pages: {some(few)} was looked at fewer than {LEAST_RUNS} times, which is no measure for the next run; "
            "give more runs. Nothing was kept."
        )
    old = before or {}
    chunks = old.get("chunks")
    least: Mapping[str, Any] = chunks if isinstance(chunks, Mapping) else {}
    kept = {str(each.get("name")): each for each in _dicts(old.get("pages"))}
    kept |= {name: lighthouse.best(kept.get(name, {}), each) for each in seen if (name := str(each.get("name")))}
    return {
        "application": name,
        "measured_at": measured_at,
        "pages": [{key: each.get(key) for key in _KEPT} for each in kept.values()],
        "chunks": {
            label: min(size, least[label]) if isinstance(least.get(label), int) else size
            for each in _dicts(bundle.get("chunks"))
            if isinstance(size := each.get("gzip_bytes"), int) and (label := str(each.get("name")))
        },
    }


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, Sequence) else []
