"""What the next run is compared with."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.web import baseline


def pages(*names: str, runs: int = 3) -> dict[str, Any]:
    return {"status": "ok", "pages": [{"name": name, "good_runs": runs, "figures": {"score": 1}} for name in names]}


def chunks(**sizes: int) -> dict[str, Any]:
    return {"status": "ok", "chunks": [{"name": name, "gzip_bytes": size} for name, size in sizes.items()]}


def test_many_small_steps_do_not_move_what_is_compared_with():
    before = None
    for size in (40_000, 43_000, 46_000, 39_000, 41_000):
        before = baseline.body("app", pages("home"), chunks(index=size, **{f"new{size}": 1}), "now", before)
    assert before is not None
    assert before["chunks"] == {"index": 39_000, "new41000": 1}


def test_a_page_that_was_not_looked_at_keeps_its_figures():
    both = baseline.body("app", pages("home", "login"), chunks(), "then", None)
    one = baseline.body("app", pages("home"), chunks(), "now", both)
    assert [each["name"] for each in one["pages"]] == ["home", "login"]


def test_a_quick_look_is_no_measure():
    with pytest.raises(RunbookError, match="home was looked at fewer than 3 times"):
        baseline.body("app", pages("home", runs=2), chunks(), "now", None)
