"""Records of runs: those beside this run, and the copies in the state store."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.state_store import StateStore

_KIND = "records/"
_RUN = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9_.-]+")


def local(runs: Path, first: str, last: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Records beside this run, by the names of their folders, and why one is none.

    :param first: the least stamp that a folder's name may begin with, and ``last`` the first that it may not
    """
    for path in sorted(runs.glob("2*Z-*")):
        if not first <= path.name < last:
            continue
        if not (path / "record.json").exists():
            if (path / "journal.jsonl").exists():
                yield path.name, "it has a journal and no record; tools/render_record.py makes one"
            continue
        yield path.name, _read(partial(_from_file, path / "record.json"), path.name)


def stored(
    store: StateStore, known: Collection[str], first: str = "", last: str = "~"
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Copies of records by the ids of their runs, and why one is none; those that are known are left out.

    :raises RunbookError: the store cannot be asked
    """
    for name in store.names(_KIND):
        run_id = name.removeprefix(_KIND)
        if run_id in known or not first <= run_id < last:
            continue
        yield run_id, _read(partial(_body, store, name), run_id)


def on_boards(store: StateStore, first: str, last: str) -> dict[str, str]:
    """Runs that the boards in a state store know, by their ids: the machine where each was, empty where none says it.

    :param first: as of :func:`local`, and ``last`` too
    :raises RunbookError: the store cannot be asked
    """
    found: dict[str, str] = {}
    for name in store.names("boards/"):
        board = _read_board(store, name)
        found |= dict.fromkeys(filter(_RUN.fullmatch, map(str, board.get("seen", ()))), "")
        for place in board.get("places", {}).values():
            # What is damaged in it the next run mends.
            runs = place.get("runs") if isinstance(place, dict) else None
            for run_id, run in runs.items() if isinstance(runs, dict) else ():
                found[run_id] = str(run.get("controller", "")) if isinstance(run, dict) else ""
    return {run_id: where for run_id, where in found.items() if first <= run_id < last}


def _read_board(store: StateStore, name: str) -> dict[str, Any]:
    """A board; an empty one where it is damaged: the next run makes it again."""
    try:
        document = store.read(name).document
    except RunbookError as error:
        if error.code == "state_unreachable":
            raise
        return {}
    return {} if document is None else document.body


def _from_file(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _body(store: StateStore, name: str) -> dict[str, Any] | str:
    document = store.read(name).document
    return "it was removed meanwhile" if document is None else document.body


def _read(read: Callable[[], Any], name: str) -> dict[str, Any] | str:
    try:
        found = read()
    except RunbookError as error:
        if error.code == "state_unreachable":
            raise
        return error.message
    except (OSError, ValueError):
        return "it is damaged"
    if not isinstance(found, dict):
        return found if isinstance(found, str) else "it is damaged"
    # Files are named after it, and two records of one run would hide each other.
    run_id = str(found.get("run_id"))
    if not _RUN.fullmatch(run_id) or run_id.partition("-")[0] != name.partition("-")[0]:
        return f"it says that it is of the run {run_id!r}"
    return found


def known_runs(runs: Path, elsewhere: str) -> set[str]:
    """Ids of the runs that the board knows, or has a record of."""
    found: set[str] = set()
    with suppress(OSError, ValueError, AttributeError, TypeError):
        index = json.loads((runs / "board-index.json").read_text(encoding="utf-8"))
        found |= {*map(str, index["seen"]), *map(str, index["folders"].values())}
    return found | {path.stem for path in (runs / elsewhere).glob("*.json")}
