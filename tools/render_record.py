#!/usr/bin/env python3
"""Make the record and the reports of a run from its journal: of one that was killed, or with newer templates.

.venv/bin/python tools/render_record.py runs/20260301T020000Z-weekly_db
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parent.parent / "module_utils"))

from ansible.module_utils.runbook.errors import RunbookError  # noqa: E402 - the path above comes first
from ansible.module_utils.runbook.report import journal  # noqa: E402
from ansible.module_utils.runbook.report.render import render_run  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Render the given folder; 0 if that worked, whatever became of the run."""
    parser = argparse.ArgumentParser(description="Make the record and the reports of a run from its journal.")
    parser.add_argument("run", type=Path, help="the run's folder, or the journal.jsonl in it")
    given = parser.parse_args(arguments).run
    directory = given.parent if given.name == journal.FILE_NAME else given
    if journal.is_alive(directory / journal.FILE_NAME):
        print(
            f"{directory}: this run, or a module that outlived it, is still going on; its report is made at its end.",
            file=sys.stderr,
        )
        return 1
    try:
        record = render_run(directory)
    except (OSError, RunbookError) as error:
        print(f"{directory}: {error}", file=sys.stderr)
        return 1
    print(f"{record['status']}: {record['verdict']}\n{directory / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
