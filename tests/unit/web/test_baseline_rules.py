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


def page(lcp: float, **more: Any) -> dict[str, Any]:
    figures = {"largest_contentful_paint_ms": lcp}
    one = {"name": "home", "good_runs": 3, "figures": figures, "spread": {name: [x, x] for name, x in figures.items()}}
    return {"status": "ok", "pages": [one | {"benchmark": 1000} | more]}


def kept(*measured: dict[str, Any]) -> dict[str, Any]:
    before = None
    for each in measured:
        before = baseline.body("app", each, chunks(), "now", before)
    assert before is not None
    pages: list[dict[str, Any]] = before["pages"]
    return pages[0]


def lcp(*measured: dict[str, Any]) -> float:
    return float(kept(*measured)["figures"]["largest_contentful_paint_ms"])


def test_a_page_that_gets_slower_in_small_steps_is_compared_with_its_first_good_run():
    assert lcp(*(page(1000 + 50 * week) for week in range(20))) == 1000


def test_a_lucky_run_is_no_measure_and_a_clearly_better_one_is():
    assert lcp(page(1000), page(920), page(1000)) == 1000
    assert lcp(page(1000), page(700), page(1000)) == 700
    # Within what the first one spread over.
    wide = page(1000, spread={"largest_contentful_paint_ms": [600, 1400]})
    assert lcp(wide, page(700)) == 1000


def test_another_page_of_that_name_is_measured_for_the_first_time():
    assert lcp(page(1000, url="https://a/"), page(2000, url="https://b/")) == 2000
    assert lcp(page(1000, preset="desktop"), page(2000, preset="mobile")) == 2000
    # What was kept before these were.
    assert lcp(page(1000), page(2000, url="https://a/", preset="mobile")) == 1000


def test_the_machine_is_the_one_that_the_figures_are_of():
    assert kept(page(1000), page(1050, benchmark=2000))["benchmark"] == 1000
    assert kept(page(1000), page(600, benchmark=2000))["benchmark"] == 2000


def test_a_quick_look_is_no_measure():
    with pytest.raises(RunbookError, match="home was looked at fewer than 3 times"):
        baseline.body("app", pages("home", runs=2), chunks(), "now", None)
