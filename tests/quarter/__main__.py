"""A quarter in an hour: ``PYTHONPATH=tests python -m quarter`` plays thirteen weeks of schedules under a moved clock.

Each job of the sandbox's inventory runs at its time by ansible-playbook, as a timer starts it, while clients write. On
stated dates something goes wrong (``incidents.py``). Each of these has to be seen on the first run that can see it, and
nothing else; the board of each week is kept, to be looked at.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import conftest  # noqa: F401 - lets our module_utils be found, and comes first
from quarter import clock, incidents

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "quarter"


def main() -> int:
    """Play, and say what was wrong."""
    parser = argparse.ArgumentParser(prog="quarter", description=__doc__)
    parser.add_argument("--first", type=int, default=1, help="week to begin with, from 1 on (1)")
    parser.add_argument("--weeks", type=int, default=incidents.WEEKS, help=f"how many ({incidents.WEEKS})")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where runs and boards are kept ({FOLDER})")
    given = parser.parse_args()
    begin = incidents.BEGIN + timedelta(weeks=given.first - 1)
    if not clock.is_moved():
        if clock.missing():
            print(f"The quarter was not played: {clock.missing()}.")
            return 2
        shutil.rmtree(given.folder, ignore_errors=True)
        given.folder.mkdir(parents=True)
        clock.enter(given.folder.resolve(), begin - timedelta(hours=12))
    return _play(given.folder.resolve(), begin, given.weeks)


def _play(folder: Path, begin: datetime, weeks: int) -> int:
    from quarter.play import Quarter  # noqa: PLC0415 - only under the moved clock
    from quarter.sandbox import Clients, jobs, sandbox  # noqa: PLC0415

    started = time.monotonic()
    end = begin + timedelta(weeks=weeks)
    injected = [each for each in incidents.INCIDENTS if begin + each.history <= each.begin and each.end <= end]
    with sandbox(folder) as made:
        clients = Clients(made.database, folder / "log" / "app.log")
        made.prepare()
        with clients.at_work():
            quarter = Quarter(made, clients, begin, weeks, injected, incidents.STANDING, folder / "boards")
            quarter.play()
    print(f"\n{len(quarter.played):,} runs of {len(made.played)} jobs in {(time.monotonic() - started) / 60:.0f} min, "
          f"{len(injected)} incidents, {2 * len(clients.audit):,} rows written meanwhile.")  # fmt: skip
    for job, why in jobs()[1].items():
        print(f"Not played: {job}: {why}.")
    print(f"Boards of each week, and of when each incident was first seen: {folder}/boards")
    for text in quarter.wrong:
        print(f"WRONG: {text}")
    print("Nothing was wrong." if not quarter.wrong else f"{len(quarter.wrong)} things were wrong.")
    return bool(quarter.wrong)


if __name__ == "__main__":
    sys.exit(main())
