"""What earlier runs have written down, in the records that lie beside this run's."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many earlier runs are looked through.
LOOK_BACK = 200


def earlier(
    directory: str | None, module: str, *, host: str = "", playbook: str = "", environment: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of a module's results in earlier runs, newest first, with the names of those runs.

    What cannot be read is left out: a record that is torn, or of another form.

    :param directory: folder of this run's record; None: no record is being written, and nothing is found
    :param host: only of this one; empty for all
    :param playbook: only runs of this one, which may lie far back; empty for all
    :param environment: none of another environment, which may have a host of the same name; empty for all
    """
    if directory is None:
        return
    own = Path(directory)
    runs: list[Path] = []
    with contextlib.suppress(OSError):
        folders = own.parent.glob(f"2*Z-{playbook}*" if playbook else "2*")
        runs = sorted((path for path in folders if path.name != own.name), reverse=True)
    for path in runs[:LOOK_BACK]:
        for figures in _figures(path / "record.json", module, host, environment):
            yield path.name, figures


def _figures(path: Path, module: str, host: str, environment: str) -> list[dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, KeyError):
        text = path.read_text()
        record = json.loads(text) if f'"{module}"' in text else {}
        # Records of earlier versions do not name it.
        if record and (not environment or record.get("environment") in (environment, None)):
            return [
                step["figures"]
                for name, of_host in record["hosts"].items()
                if host in ("", name)
                for step in reversed(of_host["steps"])
                if step["module"] == module
            ]
    return []
