#!/usr/bin/env python3
"""Make the record and the reports of a run from its journal: of one that was killed, or with newer templates.

.venv/bin/python tools/render_record.py runs/20260301T020000Z-weekly_db

Of a copy in the state store it makes the report: .venv/bin/python tools/render_record.py <run_id>.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parent.parent / "module_utils"))

from ansible.module_utils.runbook.errors import RunbookError  # noqa: E402 - the path above comes first
from ansible.module_utils.runbook.report import journal  # noqa: E402
from ansible.module_utils.runbook.report.render import render_copy, render_run  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str] | None = None) -> int:
    """Render the given folder; 0 if that worked, whatever became of the run."""
    parser = argparse.ArgumentParser(description="Make the record and the reports of a run from its journal.")
    parser.add_argument("run", type=Path, help="the run's folder, the journal.jsonl in it, or a copy of its record")
    given = parser.parse_args(arguments).run
    directory = given.parent if given.name == journal.FILE_NAME else given
    if given.suffix == ".json":
        return rendered(given, lambda: render_copy(given))
    if journal.is_alive(directory / journal.FILE_NAME):
        print(
            f"{directory}: this run, or a module that outlived it, is still going on; its report is made at its end.",
            file=sys.stderr,
        )
        return 1
    return rendered(directory, lambda: (render_run(directory), directory / "report.html"))


def rendered(given: Path, make: Callable[[], tuple[dict[str, Any], Path]]) -> int:
    """Say what became of it; 0 if there is a report."""
    try:
        record, report = make()
    except (OSError, RunbookError) as error:
        print(f"{given}: {error}", file=sys.stderr)
        return 1
    print(f"{record['status']}: {record['verdict']}\n{report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
