"""What Lighthouse's reports are made to say: the run in the middle, budgets, the last good run, and pages of errors."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.web import lighthouse
from ansible.module_utils.runbook.rules.web.lighthouse import Page, middle, read
from web_reports import URL, report


def page(*reports: dict[str, Any], url=URL):
    return Page("home", url, [read(each) for each in reports])


def judged(of, before=None, **limits: float):
    found, unknown = lighthouse.judge(of, lighthouse.budgets("budgets", limits), before, worse_percent=20)
    return [each.id for each in found], [each.kind for each in unknown]


def test_the_run_in_the_middle_is_lighthouses_own_choice():
    runs = [
        read(report(fcp=fcp, tti=tti))
        for fcp, tti in ((1000, 9000), (1100, 3000), (1200, 3100), (5000, 2900), (900, 3050))
    ]
    # Medians are 1100 and 3050, so the second run is nearest though none is the median in both.
    assert middle(runs) is runs[1]


def test_a_page_within_its_budgets_is_ok_at_the_limit_and_not_beyond():
    assert judged(page(report(score=0.9, lcp=2500))) == ([], [])
    assert judged(page(report(score=0.89))) == (["page_slow:home"], [])
    assert judged(page(report(lcp=2501))) == (["page_slow:home"], [])
    assert judged(page(report(lcp=2501)), largest_contentful_paint_ms=3000) == ([], [])


def test_what_is_slow_is_told_with_its_cause():
    found, _ = lighthouse.judge(page(report(score=0.4, lcp=6000)), lighthouse.BUDGETS, None, worse_percent=20)
    assert "score 40 (at least 90)" in found[0].msg
    assert "Serve images in next-gen formats (1,050 ms and 198 KiB: /assets/hero.png)" in found[0].msg


def test_a_page_that_answers_500_and_scores_100_is_red():
    found, unknown = lighthouse.judge(page(report(score=1.0, status=500)), lighthouse.BUDGETS, None, worse_percent=20)
    assert [each.severity for each in found] == ["critical"]
    assert "answers with 500, whatever its score of 100" in found[0].msg
    assert not unknown


@pytest.mark.parametrize(
    ("code", "message", "is_red"),
    [
        ("ERRORED_DOCUMENT_REQUEST", "Unable to reliably load it. (Status code: 503)", True),
        ("NO_FCP", "The page did not paint any content.", True),
        ("CHROME_INTERSTITIAL_ERROR", "Chrome prevented page load with an interstitial.", True),
        ("TARGET_CRASHED", "Browser tab has unexpectedly crashed.", False),
        ("PROTOCOL_TIMEOUT", "Waiting for DevTools protocol response has exceeded the allotted time.", False),
        ("DNS_FAILURE", "DNS servers could not resolve the provided domain.", False),
    ],
)
def test_an_error_of_the_page_is_red_and_any_other_unknown(code, message, is_red):
    found, unknown = judged(page(report(error=(code, message))))
    assert (found, unknown) == ((["page_broken:home"], []) if is_red else ([], ["page:home"]))


def test_a_page_to_log_in_in_the_place_of_another_is_unknown():
    found, unknown = lighthouse.judge(
        page(report(final="https://app.example.com/login")), lighthouse.BUDGETS, None, worse_percent=20
    )
    assert not found
    assert "app.example.com/login, which is a page to log in" in unknown[0].msg
    # The page to log in itself may be measured, and another way on is a warning.
    assert judged(page(report(url=f"{URL}login"), url=f"{URL}login")) == ([], [])
    assert judged(page(report(final=f"{URL}en/"))) == (["page_redirected:home"], [])


def test_runs_that_gave_nothing_are_not_left_unsaid():
    _, unknown = lighthouse.judge(
        page(report(), report(error=("TARGET_CRASHED", "It crashed.")), report()),
        lighthouse.BUDGETS,
        None,
        worse_percent=20,
    )
    assert "1 of 3 runs gave nothing: TARGET_CRASHED: It crashed." in unknown[0].msg


def test_a_report_without_figures_is_unknown_and_none_at_all_an_error():
    assert judged(page(report(lcp=None))) == ([], ["page:home"])
    with pytest.raises(RunbookError) as error:
        read([])
    assert error.value.status == "unknown"


def test_worse_than_the_last_good_run_is_beyond_per_cent_floor_and_spread():
    before = page(report(lcp=1500), report(lcp=1600), report(lcp=1900)).result()
    assert judged(page(report(lcp=2300)), before) == (["page_regression:home"], [])
    # By a fifth and no more; within what the last good run spread over; and better.
    assert judged(page(report(lcp=1780)), before) == ([], [])
    assert judged(page(report(lcp=1850), report(lcp=2300), report(lcp=2400)), before) == ([], [])
    assert judged(page(report(lcp=900)), before) == ([], [])
    # Twice nothing is nothing.
    assert judged(page(report(tbt=40)), page(report(tbt=10)).result()) == ([], [])


def test_on_a_slower_machine_nobody_knows_and_what_is_no_time_is_told_all_the_same():
    before = page(report(lcp=1500, benchmark=1000)).result()
    assert judged(page(report(lcp=2300, benchmark=600)), before) == ([], ["page_regression:home"])
    assert judged(page(report(lcp=2300, benchmark=800)), before) == (["page_regression:home"], [])
    assert judged(page(report(lcp=2300, size=900_000, benchmark=600)), before) == (["page_regression:home"], [])


def test_a_budget_of_what_is_not_measured_is_refused():
    with pytest.raises(RunbookError, match="budgets: lcp is no figure of Lighthouse's"):
        lighthouse.budgets("budgets", {"lcp": 2000})
    with pytest.raises(RunbookError, match="score is 90; give a number, 0 to 1"):
        lighthouse.budgets("budgets", {"score": 90})


def test_a_page_of_another_host_in_its_place_was_not_measured():
    secret = "https://id.example.net/app?state=abc123#def456"
    of = page(report(final=secret))
    found, unknown = lighthouse.judge(of, lighthouse.BUDGETS, None, worse_percent=20)
    assert ([*found], [each.kind for each in unknown]) == ([], ["page:home"])
    assert "id.example.net/app" in unknown[0].msg
    assert "figures" not in of.result()


def test_a_query_that_a_page_leads_to_is_in_no_result():
    of = page(report(final="https://www.app.example.com/start?code=abc123#token=def456"))
    found, _ = lighthouse.judge(of, lighthouse.BUDGETS, None, worse_percent=20)
    assert [each.kind for each in found] == ["page_redirected"]
    assert "abc123" not in f"{of.result()} {found}"
    failed = read(report(error=("NO_NAVSTART", "No way to https://u:abc123@a.example.com/x?code=abc123.")))
    assert "abc123" not in failed.why
