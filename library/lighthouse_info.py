#!/usr/bin/python
"""Ansible module lighthouse_info: how fast pages are, and what makes them slow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lighthouse_info
short_description: Measure pages with Lighthouse
description:
  - Looks at each page several times with Lighthouse, each time with a Chromium of its own, and takes the run in the
    middle. Compares its score and its figures with budgets, and with good runs of this inventory host, and names
    what costs most.
  - A page that answers with an error is a V(breach), whatever it scores. So is one that paints nothing. Where a page to
    log in stands in its place, where Chromium dies, or where nothing answers, the result is V(unknown).
  - Where a page became slower and the machine did too, by Lighthouse's own benchmark of it, that is V(unknown).
  - Changes nothing. M(web_baseline) keeps what a good run measured.
options:
  name:
    description:
      - Name of the application, under which good runs are kept.
    type: str
    required: true
  pages:
    description:
      - Pages to look at. The first ones decide what a run costs, some 10 seconds each time.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Its name, the same in each run.
        type: str
        required: true
      url:
        description:
          - Its address, without a query, and reachable without a login.
        type: str
        required: true
      budgets:
        description:
          - Limits of this page over O(budgets).
        type: dict
        default: {}
  budgets:
    description:
      - C(score) is the least, 0 to 1; C(largest_contentful_paint_ms), C(first_contentful_paint_ms),
        C(total_blocking_time_ms), C(speed_index_ms), C(cumulative_layout_shift) and C(total_bytes) are the most. What
        is not named has the limit that Lighthouse and web.dev call good.
    type: dict
    default: {}
  worse_percent:
    description:
      - How much worse than in good runs a figure may be, in per cent, 1 to 1000. It is worse only if its best value of
        now is also worse than its worst of then. What it is compared with is the first good run, and of each figure a
        later one that was clearly better.
    type: int
    default: 20
  runs:
    description:
      - How often each page is looked at, 1 to 15. A single run is for a quick look and not for a judgement.
    type: int
    default: 3
  preset:
    description:
      - V(mobile) is a telephone on a slow network, as Lighthouse simulates it; V(desktop) is a computer.
    type: str
    default: mobile
    choices: [mobile, desktop]
extends_documentation_fragment:
  - runbook_browser
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Measure pages
  lighthouse_info:
    name: mental-scribe
    tools_path: /opt/runbook-web
    pages:
      - {name: home, url: https://app.example.com/}
      - {name: login, url: https://app.example.com/login, budgets: {score: 0.95}}
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
msg:
  description: What was found, in one sentence with the scores.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) where a page could not be measured.
  type: str
  returned: always
findings:
  description: What is wrong, in the form of M(pg_index_info); C(page_broken), C(page_slow), C(page_regression),
    C(page_redirected).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be measured, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
pages:
  description:
    - Each page with C(name), C(url), C(preset), C(runs) and C(good_runs). One that could be measured has C(figures) of
      the run in the middle, C(spread) (least and most of each), C(benchmark) (speed of the machine), C(final_url) and
      C(causes). A cause has its C(audit), C(title), C(saved_ms), C(saved_bytes) and C(of).
  type: list
  elements: dict
  returned: always
compared_with:
  description: When the last good run was; empty where there is none.
  type: str
  returned: always
budgets:
  description: The limits that hold where a page has none of its own.
  type: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.web import baselines, browser
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import lighthouse
from ansible.module_utils.runbook.rules.web.baseline import document_name
from ansible.module_utils.runbook.rules.web.lighthouse import Page, Run
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "lighthouse_info"
BOUNDS = browser.BOUNDS | {"worse_percent": (1, 1000), "runs": (1, 15)}


def core(context: Context) -> dict[str, Any]:
    """Look, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    limits = lighthouse.budgets("budgets", params["budgets"])
    of_page = wanted(params["pages"], params["budgets"])
    before = baselines.read(document_name(params["name"]), params, context.run)
    clock = Clock(params["deadline_s"])
    tools = browser.Tools(params, clock)
    total = len(of_page) * params["runs"]
    seen, results, found, unknown = [], [], [], []
    for number, each in enumerate(params["pages"]):
        page = Page(each["name"], each["url"], [])
        for turn in range(params["runs"]):
            context.progress.update(page.name, number * params["runs"] + turn, total, "runs")
            run = look(tools, page.url, params["preset"])
            page = replace(page, runs=[*page.runs, run])
            if run.http_status >= 400:
                # The next look would find the same.
                break
        seen.append(page)
        results.append(page.result() | {"preset": params["preset"]})
        kept = before.pages.get(page.name)
        if kept and not lighthouse.is_same(kept, results[-1]):
            kept = None
        some_found, some_unknown = lighthouse.judge(
            page, of_page[page.name], kept, worse_percent=params["worse_percent"]
        )
        found += some_found
        unknown += some_unknown
    said = findings.results(found, unknown, of=f"{count(len(seen), 'page')}, {lighthouse.summary(seen)}")
    return context.conclude(
        Status(said.pop("status")),
        **said,
        pages=results,
        compared_with=before.measured_at,
        budgets=limits,
        duration_s=round(clock.passed_s(), 1),
    )


def wanted(pages: list[dict[str, Any]], shared: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Limits by the name of the page.

    :raises RunbookError: there is no page, two have one name, or one has no address
    """
    if not pages:
        raise RunbookError("pages: it is empty; name at least one page with its name and url.")
    found: dict[str, dict[str, float]] = {}
    for each in pages:
        if each["name"] in found:
            raise RunbookError(f"pages: {each['name']} is there twice; give each page a name of its own.")
        check_address("pages", each["url"])
        found[each["name"]] = lighthouse.budgets(f"budgets of {each['name']}", {**shared, **each["budgets"]})
    return found


def look(tools: browser.Tools, url: str, preset: str) -> Run:
    """One run. What could not be measured is a run without figures."""
    try:
        return lighthouse.read(tools.audit(url, preset))
    except RunbookError as error:
        return Run(error=error.code or "not_measured", why=error.message)


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    page = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "budgets": {"type": "dict", "default": {}},
    }
    return (
        browser.argument_spec()
        | state_store.argument_spec()
        | {
            "name": {"type": "str", "required": True},
            "pages": {"type": "list", "elements": "dict", "required": True, "options": page},
            "budgets": {"type": "dict", "default": {}},
            "worse_percent": {"type": "int", "default": 20},
            "runs": {"type": "int", "default": 3},
            "preset": {"type": "str", "default": "mobile", "choices": ["mobile", "desktop"]},
        }
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


if __name__ == "__main__":
    main()
