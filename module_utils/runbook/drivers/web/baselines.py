"""What the last good run measured of an application: a document of the state store, ``web/<name>``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.run import Run


@dataclass(frozen=True)
class Baseline:
    """What was measured; empty where there was no good run, or no state store is named."""

    measured_at: str = ""
    #: Pages by their names, as ``lighthouse_info`` gave them.
    pages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Bytes as gzip makes them, by the name of a chunk; None where no bundle was measured.
    chunks: Mapping[str, int] | None = None


def read(document: str, params: Mapping[str, Any], run: Run) -> Baseline:
    """The last good run.

    :param document: its name in the store
    :raises RunbookError: the state store cannot be asked (``unknown``)
    """
    if not (params.get("state_bucket") or params.get("state_directory")):
        return Baseline()
    found = Documents.from_params(params, run).read(document).document
    if found is None:
        return Baseline()
    pages, chunks = found.body.get("pages"), found.body.get("chunks")
    return Baseline(
        str(found.body.get("measured_at") or ""),
        {str(each.get("name")): each for each in pages if isinstance(each, dict)} if isinstance(pages, list) else {},
        chunks if isinstance(chunks, dict) and chunks else None,
    )
