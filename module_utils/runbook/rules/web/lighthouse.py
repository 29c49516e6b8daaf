"""What Lighthouse's reports of a page say: the run in the middle, whether it is good enough, and what makes it slow.

A report is the JSON that ``lighthouse --output=json`` writes
(https://github.com/GoogleChrome/lighthouse/blob/main/docs/understanding-results.md). A score alone is not believed: a
page of errors is light, and scores 100.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, size, some, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Figures of a run, and the audit that measures each.
METRICS = {
    "largest_contentful_paint_ms": "largest-contentful-paint",
    "first_contentful_paint_ms": "first-contentful-paint",
    "total_blocking_time_ms": "total-blocking-time",
    "speed_index_ms": "speed-index",
    "cumulative_layout_shift": "cumulative-layout-shift",
    "total_bytes": "total-byte-weight",
}
SCORE = "score"
#: What counts as good: the limits of https://web.dev/articles/vitals and of Lighthouse's own scoring on a telephone
#: (https://developer.chrome.com/docs/lighthouse/performance/performance-scoring), and the weight from which on
#: Lighthouse calls a page heavy.
BUDGETS: dict[str, float] = {
    SCORE: 0.9,
    "largest_contentful_paint_ms": 2500,
    "first_contentful_paint_ms": 1800,
    "total_blocking_time_ms": 200,
    "speed_index_ms": 3400,
    "cumulative_layout_shift": 0.1,
    "total_bytes": 1_600_000,
}
#: Below these a figure did not get worse, whatever the per cent: it is within what the same page shows twice.
_FLOORS = {
    SCORE: 0.03,
    "largest_contentful_paint_ms": 100,
    "first_contentful_paint_ms": 100,
    "total_blocking_time_ms": 50,
    "speed_index_ms": 150,
    "cumulative_layout_shift": 0.02,
    "total_bytes": 10_240,
}
#: Figures that no machine changes.
_SIZES = frozenset({"total_bytes", "cumulative_layout_shift"})
_TIMES = _FLOORS.keys() - _SIZES
#: A figure that is by so much better than what is kept takes its place.
BETTER_PERCENT = 10
#: How much slower than before the machine itself may have become; Lighthouse's benchmark is of its processor.
MACHINE_PERCENT = 30
#: What makes a page slow, at most so many of it; and so many addresses of each.
_CAUSES, _ITEMS = 5, 3
#: Below these an audit's saving is not worth a sentence.
_SAVED_MS, _SAVED_BYTES = 50, 10_240
#: Audits that only describe.
_NO_CAUSE = frozenset({"network-requests", "script-treemap-data", "resource-summary", "metrics", "diagnostics"})
_LOGIN = re.compile(r"(?:^|[/._-])(?:log-?in|sign-?in|sso|oauth2?|auth|authorize)(?:$|[/._-])", re.IGNORECASE)
#: Errors by which Lighthouse says that the page is at fault. With all others nobody knows.
#: https://github.com/GoogleChrome/lighthouse/blob/main/core/lib/lh-error.js
_OF_PAGE = {
    "ERRORED_DOCUMENT_REQUEST": "it answers with an error",
    "NO_FCP": "it paints nothing",
    "PAGE_HUNG": "it hangs",
    "NOT_HTML": "it is not HTML",
    "INSECURE_DOCUMENT_REQUEST": "its certificate is not trusted",
    "CHROME_INTERSTITIAL_ERROR": "Chromium shows a warning in its place, as for a certificate",
}


@dataclass(frozen=True)
class Cause:
    """One of Lighthouse's audits that a page would be faster without."""

    audit: str
    title: str
    saved_ms: float
    saved_bytes: float
    #: What it is about: addresses of files.
    of: Sequence[str] = ()

    def __str__(self) -> str:
        saved = [f"{self.saved_ms:,.0f} ms"] if self.saved_ms >= 1 else []
        saved += [size(self.saved_bytes)] if self.saved_bytes >= 1 else []
        about = f": {some(self.of, most=_ITEMS)}" if self.of else ""
        return f"{self.title} ({' and '.join(saved)}{about})"

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "audit": self.audit, "title": self.title, "saved_ms": round(self.saved_ms),
            "saved_bytes": round(self.saved_bytes), "of": list(self.of),
        }  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One look at one page."""

    #: Figures by their names; empty where the look failed.
    figures: Mapping[str, float] = field(default_factory=dict)
    #: When the page answers to the hand, in ms: by this and the first paint the run in the middle is chosen.
    interactive_ms: float = math.nan
    #: Status of the page itself; 0 where Lighthouse does not say.
    http_status: int = 0
    #: Where it led to, without the query, in which a service to log in has its secrets.
    final_url: str = ""
    #: Speed of the machine's processor, by Lighthouse; 0 where it does not say.
    benchmark: float = 0.0
    causes: Sequence[Cause] = ()
    #: Why there are no figures: Lighthouse's code, and its sentence.
    error: str = ""
    why: str = ""


def read(report: object) -> Run:
    """One report.

    :raises RunbookError: it is none
    """
    if not isinstance(report, Mapping) or not isinstance(report.get("audits"), Mapping):
        raise RunbookError("Lighthouse wrote no report.", status=Status.UNKNOWN)
    audits: Mapping[str, Any] = report["audits"]
    final = str(report.get("finalDisplayedUrl") or report.get("finalUrl") or "")
    status = _http_status(audits, str(report.get("mainDocumentUrl") or final))
    shared: dict[str, Any] = {"http_status": status, "final_url": without_secrets(final)}
    error = report.get("runtimeError")
    if isinstance(error, Mapping) and error.get("code"):
        said = without_secrets(_plain(error.get("message")))
        # Of a page of errors it tells the status in its sentence alone.
        told = re.search(r"Status code: (\d{3})", said)
        shared["http_status"] = int(told[1]) if told else status
        return Run(error=str(error["code"]), why=said, **shared)
    figures = {name: _number(audits, audit) for name, audit in METRICS.items()}
    score = ((report.get("categories") or {}).get("performance") or {}).get("score")
    interactive = _number(audits, "interactive")
    if not isinstance(score, (int, float)) or any(map(math.isnan, (*figures.values(), interactive))):
        missing = sorted(name for name, value in figures.items() if math.isnan(value)) or [SCORE]
        return Run(error="NO_FIGURES", why=f"the report has no {some(missing)}", **shared)
    environment = report.get("environment") or {}
    return Run(
        figures={SCORE: float(score)} | figures,
        interactive_ms=interactive,
        benchmark=float(environment.get("benchmarkIndex") or 0),
        causes=causes(audits),
        **shared,
    )


def causes(audits: Mapping[str, Any]) -> list[Cause]:
    """What makes a page slow, what costs most first: the audits that would save time or bytes."""
    found = []
    for name, audit in audits.items():
        details = audit.get("details") if isinstance(audit, Mapping) else None
        if not isinstance(details, Mapping) or name in _NO_CAUSE:
            continue
        by_metric = audit.get("metricSavings") or {}
        saved_ms = max(
            (_of(details.get("overallSavingsMs")), *(_of(by_metric.get(key)) for key in ("LCP", "FCP", "TBT")))
        )
        saved_bytes = _of(details.get("overallSavingsBytes"))
        if saved_ms < _SAVED_MS and saved_bytes < _SAVED_BYTES:
            continue
        entries = details.get("items")
        entries = [each for each in entries if isinstance(each, Mapping)] if isinstance(entries, Sequence) else []
        urls = [urlsplit(str(each["url"])).path for each in entries if isinstance(each.get("url"), str)]
        found.append(Cause(name, _plain(audit.get("title")), saved_ms, saved_bytes, list(dict.fromkeys(urls))[:_ITEMS]))
    return sorted(found, key=lambda each: (-each.saved_ms, -each.saved_bytes, each.audit))[:_CAUSES]


def middle(runs: Sequence[Run]) -> Run:
    """The run whose first paint and whose time to interactive are nearest to the medians of both.

    So Lighthouse itself chooses (computeMedianRun, core/lib/median-run.js): these are the begin and the end of loading,
    and the causes that are told belong to the very figures that are.

    :param runs: with figures; at least one
    """
    paint = median(each.figures["first_contentful_paint_ms"] for each in runs)
    interactive = median(each.interactive_ms for each in runs)

    def distance(run: Run) -> tuple[float, float]:
        off = math.hypot(run.figures["first_contentful_paint_ms"] - paint, run.interactive_ms - interactive)
        return off, run.interactive_ms

    return min(runs, key=distance)


@dataclass(frozen=True)
class Page:
    """A page, and what was seen of it."""

    name: str
    url: str
    runs: Sequence[Run]

    @property
    def good(self) -> list[Run]:
        """Runs with figures, of the page that was meant."""
        return [
            each
            for each in self.runs
            if each.figures and each.http_status < 400 and not is_another(self.url, each.final_url)
        ]

    def spread(self) -> dict[str, list[float]]:
        """Least and most of each figure."""
        return {
            name: [min(of_all), max(of_all)]
            for name in BUDGETS
            if (of_all := [each.figures[name] for each in self.good])
        }

    def result(self) -> dict[str, Any]:
        """As a module returns it; with figures only where there are some."""
        found: dict[str, Any] = {
            "name": self.name,
            "url": self.url,
            "runs": len(self.runs),
            "good_runs": len(self.good),
        }
        if not self.good:
            return found
        chosen = middle(self.good)
        return found | {
            "figures": dict(chosen.figures), "spread": self.spread(), "benchmark": chosen.benchmark,
            "final_url": chosen.final_url, "causes": [each.result() for each in chosen.causes],
        }  # fmt: skip


def is_another(url: str, final_url: str) -> bool:
    """Whether another page stands in the place of the one that was meant: of another host, or one to log in.

    >>> is_another("https://example.com/", "https://www.example.com/"), is_another("https://example.com/a", "")
    (False, False)
    >>> is_another("https://app.example.com/", "https://id.example.net/app"), is_another("https://a.b/", "https://a.b/login")
    (True, True)
    """
    asked, got = urlsplit(url), urlsplit(final_url)
    if not final_url:
        return False
    if _host(asked.hostname) != _host(got.hostname):
        return True
    moved = asked.path.rstrip("/") != got.path.rstrip("/")
    return moved and bool(_LOGIN.search(got.path)) and not _LOGIN.search(url)


def _host(name: str | None) -> str:
    return (name or "").removeprefix("www.")


def budgets(option: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Limits that hold: those given over :data:`BUDGETS`.

    :raises RunbookError: one is unknown, or no number that can be met
    """
    found = dict(BUDGETS)
    for name, value in given.items():
        if name not in BUDGETS:
            raise RunbookError(f"{option}: {name} is no figure of Lighthouse's; there are {', '.join(BUDGETS)}.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (name == SCORE and value > 1):
            most = "0 to 1" if name == SCORE else "0 or more"
            raise RunbookError(f"{option}: {name} is {value!r}; give a number, {most}.")
        found[name] = float(value)
    return found


def judge(
    page: Page, limits: Mapping[str, float], before: Mapping[str, Any] | None, *, worse_percent: int
) -> tuple[list[Finding], list[Unknown]]:  # fmt: skip
    """What is wrong with one page.

    :param before: what :func:`best` made of good runs; None where there is none
    :param worse_percent: how much worse than that a figure may be
    """
    failed = [each for each in page.runs if each not in page.good]
    broken = next((each for each in failed if each.http_status >= 400), None)
    at_fault = next((each for each in failed if each.error in _OF_PAGE), None)
    if broken or at_fault:
        return [_broken(page, broken, at_fault)], []
    if not page.good:
        return [], [Unknown(f"page:{page.name}", f"{page.name}: {_why_not(failed)}")]
    chosen = middle(page.good)
    unknown = []
    if failed:
        msg = f"{page.name}: {len(failed)} of {count(len(page.runs), 'run')} gave nothing: {_why_not(failed)}"
        unknown.append(Unknown(f"page:{page.name}", msg))
    found = [*_over(page, chosen, limits), *_moved(page, chosen)]
    if before is not None:
        worse, why_not = _worse(page, chosen, before, worse_percent)
        found += worse
        unknown += why_not
    return found, unknown


def _broken(page: Page, broken: Run | None, at_fault: Run | None) -> Finding:
    scored = next((each.figures[SCORE] for each in page.runs if each.figures and each.http_status >= 400), None)
    if broken:
        told = f"answers with {broken.http_status}"
        told += f", whatever its score of {100 * scored:.0f}" if scored is not None else ""
    else:
        told = f"cannot be measured: {_OF_PAGE[at_fault.error]} ({at_fault.error})" if at_fault else ""
    return Finding(
        finding_id("page_broken", page.name), "page_broken", "critical", page.name,
        {
            "url": page.url, "http_status": broken.http_status if broken else 0,
            "error": at_fault.error if at_fault else "",
        },
        f"{page.name} {told}; mend the page first.",
    )  # fmt: skip


def _why_not(failed: Sequence[Run]) -> str:
    first = failed[0]
    if first.figures:
        where = urlsplit(first.final_url)
        return (
            f"it led to {where.netloc}{where.path}, which is a page to log in or of another host, so the page that was "
            "meant was not measured; name a page that needs no login, or the one that it leads to."
        )
    return f"{first.error}: {first.why.rstrip('.')}."


def text(name: str, value: float) -> str:
    """A figure of Lighthouse's as people read it.

    >>> text("score", 0.91), text("total_bytes", 2048), text("cumulative_layout_shift", 0.25)
    ('91', '2.0 KiB', '0.25')
    """
    if name == SCORE:
        return f"{100 * value:.0f}"
    if name.endswith("_bytes"):
        return size(value)
    return f"{value:,.0f} ms" if name.endswith("_ms") else f"{value:.3g}"


def _label(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def _told(chosen: Run) -> str:
    return f" What costs most: {'; '.join(map(str, chosen.causes[:_ITEMS]))}." if chosen.causes else ""


def _over(page: Page, chosen: Run, limits: Mapping[str, float]) -> Iterator[Finding]:
    missed = {
        name: value
        for name, value in chosen.figures.items()
        if (value < limits[name] if name == SCORE else value > limits[name])
    }
    if not missed:
        return
    said = ", ".join(
        f"{_label(name)} {text(name, value)} ({'at least' if name == SCORE else 'at most'} {text(name, limits[name])})"
        for name, value in missed.items()
    )
    evidence = {"url": page.url, "runs": len(page.good)} | {
        key: value for name, value in missed.items() for key, value in ((name, value), (f"{name}_budget", limits[name]))
    }
    yield Finding(
        finding_id("page_slow", page.name), "page_slow", "critical", page.name, evidence,
        f"{page.name} misses its budget: {said}.{_told(chosen)}",
    )  # fmt: skip


def _moved(page: Page, chosen: Run) -> Iterator[Finding]:
    asked, got = urlsplit(page.url), urlsplit(chosen.final_url)
    if chosen.final_url and (asked.netloc, asked.path.rstrip("/")) != (got.netloc, got.path.rstrip("/")):
        yield Finding(
            finding_id("page_redirected", page.name), "page_redirected", "warning", page.name,
            {"url": page.url, "final_url": chosen.final_url},
            f"{page.name} leads to {got.netloc}{got.path}, which was measured with the way there; name that page.",
        )  # fmt: skip


def _worse(
    page: Page, chosen: Run, before: Mapping[str, Any], worse_percent: int
) -> tuple[list[Finding], list[Unknown]]:  # fmt: skip
    """What got worse than it was, and why that cannot be said."""
    old, spread = before.get("figures") or {}, before.get("spread") or {}
    evidence: dict[str, float] = {}
    said = []
    now = page.spread()
    for name, value in chosen.figures.items():
        was = old.get(name)
        if not isinstance(was, (int, float)):
            continue
        if _is_worse(name, (value, now.get(name)), (was, spread.get(name)), worse_percent):
            evidence |= {name: value, f"{name}_before": was}
            said.append(f"{_label(name)} {text(name, was)} → {text(name, value)}")
    if not said:
        return [], []
    slower = _slower_percent(chosen.benchmark, before.get("benchmark"))
    if slower > MACHINE_PERCENT and not _SIZES & evidence.keys():
        msg = (
            f"{page.name}: {', '.join(said)} against good runs, but this machine is {slower:.0f} % slower than "
            "it was then; run it again when nothing else runs."
        )
        return [], [Unknown(f"page_regression:{page.name}", msg)]
    return [
        Finding(
            finding_id("page_regression", page.name), "page_regression", "critical", page.name, evidence,
            f"{page.name} got worse than in good runs: {', '.join(said)}.{_told(chosen)}",
        )
    ], []  # fmt: skip


#: A figure of the run in the middle, and the least and the most of all looks, where they are known.
_Seen = tuple[float, Sequence[float] | None]


def _is_worse(name: str, seen: _Seen, than: _Seen, percent: float) -> bool:
    """Whether a figure is worse than another beyond per cent, floor, and what the looks at both spread over."""
    value, was = seen[0], than[0]
    least, most = seen[1] or (value, value)
    was_least, was_most = than[1] or (was, was)
    # The best of the one is still worse than the worst of the other.
    apart = most < was_least if name == SCORE else least > was_most
    step = was - value if name == SCORE else value - was
    return apart and step > max(abs(was) * percent / 100, _FLOORS[name])


def is_same(before: Mapping[str, Any], page: Mapping[str, Any]) -> bool:
    """Whether two measures are of one page, looked at in one way; older ones do not say it."""
    return all(before.get(key) in (None, page.get(key)) for key in ("url", "preset"))


def best(before: Mapping[str, Any], page: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a page: of each figure what it was in the first good run, until it is clearly better.

    So neither many small steps nor one lucky run move what later runs are compared with.

    :param before: as this function gave it
    :param page: as the module gives it
    """
    if not is_same(before, page):
        return dict(page)
    old, now = before.get("figures") or {}, page.get("figures") or {}
    spread, spread_now = before.get("spread") or {}, page.get("spread") or {}
    kept = {
        name: value
        for name, value in old.items()
        if name in now
        and not _is_worse(name, (value, spread.get(name)), (now[name], spread_now.get(name)), BETTER_PERCENT)
    }
    return dict(page) | {
        "figures": {**now, **kept},
        "spread": {**spread_now, **{name: spread[name] for name in kept if name in spread}},
        # Of a machine that was slower than it was for one of them nothing is said.
        "benchmark": max(
            (_of((before if name in kept else page).get("benchmark")) for name in now.keys() & _TIMES), default=0.0
        ),
    }


def _slower_percent(now: float, before: object) -> float:
    if not isinstance(before, (int, float)) or not before or not now:
        return 0.0
    return 100 * (1 - now / before)


def _http_status(audits: Mapping[str, Any], url: str) -> int:
    details = (audits.get("network-requests") or {}).get("details") or {}
    documents = [
        each
        for each in details.get("items") or []
        if isinstance(each, Mapping) and each.get("resourceType") == "Document"
    ]
    own = [each for each in documents if each.get("url") == url] or documents[-1:]
    status = own[-1].get("statusCode") if own else 0
    return status if isinstance(status, int) and status > 0 else 0


def _number(audits: Mapping[str, Any], name: str) -> float:
    audit = audits.get(name)
    value = audit.get("numericValue") if isinstance(audit, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _of(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _plain(value: object) -> str:
    """Without Markdown's links and backquotes."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", str(value or "")).replace("`", "")


def summary(pages: Iterable[Page]) -> str:
    """The scores in a few words."""
    scores = [f"{each.name} {100 * middle(each.good).figures[SCORE]:.0f}" for each in pages if each.good]
    return f"scores: {', '.join(scores)}" if scores else "no scores"
