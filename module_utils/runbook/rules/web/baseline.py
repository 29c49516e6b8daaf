"""What is kept of a good run, so that the next one can tell what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status

#: Of a page; its causes and addresses are in the record.
_KEPT = ("name", "figures", "spread", "benchmark")


def document_name(name: str) -> str:
    """The document of an application in the state store."""
    return f"web/{name}"


def body(name: str, pages: Mapping[str, Any], bundle: Mapping[str, Any], measured_at: str) -> dict[str, Any]:
    """The document of two results, of ``lighthouse_info`` and of ``bundle_info``.

    :raises RunbookError: one of them is not green
    """
    for option, result in (("pages", pages), ("bundle", bundle)):
        if result.get("status") != Status.OK:
            raise RunbookError(
                f"{option}: the result is {result.get('status') or 'none'}, and only a green run is what the next one "
                "is compared with; nothing was kept."
            )
    return {
        "application": name,
        "measured_at": measured_at,
        "pages": [{key: each.get(key) for key in _KEPT} for each in _dicts(pages.get("pages"))],
        "chunks": {str(each.get("name")): each.get("gzip_bytes") for each in _dicts(bundle.get("chunks"))},
    }


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, Sequence) else []
