"""Records of this project's own runs: beside this run's, and in the state store."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.drivers.state_store import StateStore

#: Copies of records in the state store.
_COPIES = "records/"
#: No run is longer; one that began before the time may reach into it.
_LONGEST_S = 86_400
_BEGAN = re.compile(r"(\d{8}T\d{6})Z")


def records(
    directory: str | None, store: StateStore | None, begin: datetime, end: datetime
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Records of runs that may have been going on in a time; one that lies in both places comes twice.

    :param directory: folder of this run's record; None: none is being written
    :raises RunbookError: the state store cannot be asked
    """
    yield from _of_folder(directory, begin, end)
    yield from _of_store(store, begin, end)


def _of_folder(directory: str | None, begin: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    if directory is None:
        return
    for path in Path(directory).parent.glob("2*Z-*"):
        if _is_within(path.name, begin, end):
            with contextlib.suppress(OSError, ValueError):
                yield json.loads((path / "record.json").read_text())


def _of_store(store: StateStore | None, begin: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    if store is None:
        return
    for name in store.names(_COPIES):
        if _is_within(name, begin, end) and (document := store.read(name).document) is not None:
            yield dict(document.body)


def _is_within(name: str, begin: datetime, end: datetime) -> bool:
    found = _BEGAN.search(name)
    if found is None:
        return False
    at = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return begin.timestamp() - _LONGEST_S <= at.timestamp() < end.timestamp()
