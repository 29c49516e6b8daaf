"""A week of the quarter: schedules under a moved clock, with what goes wrong in it (``tests/quarter``)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT
from quarter import clock

if TYPE_CHECKING:
    from pathlib import Path

#: With the first Sunday, on which the monthly work takes the place of the weekly one.
WEEK = 5


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_week_is_played_and_what_goes_wrong_in_it_is_seen(tmp_path: Path):
    if clock.missing():
        pytest.skip(f"the week was NOT played: {clock.missing()}")
    done = subprocess.run(
        [sys.executable, "-m", "quarter", "--first", str(WEEK), "--weeks", "1", "--folder", str(tmp_path / "quarter")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "tests")}, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Nothing was wrong." in done.stdout
    assert (tmp_path / "quarter/boards/week-01/board.html").exists()
