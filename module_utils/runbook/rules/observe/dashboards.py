"""What is wrong with dashboards and alert rules: panels that show nothing, metrics that are gone, services unseen.

A panel is judged only where its query can be asked as Grafana would ask it: a variable whose value is not in the
dashboard makes it unknown. Each service should be seen by the rate of its requests, their errors and their duration
(RED, https://grafana.com/blog/2018/08/02/the-red-method-how-to-instrument-your-services/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.observe import promql
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.observe.series import Rule

#: What Grafana fills in itself, as it would be in a dashboard of a day.
_OF_GRAFANA = {
    "__interval": "5m", "__rate_interval": "5m", "__range": "1d", "__interval_ms": "300000", "__range_s": "86400",
    "__range_ms": "86400000",
}  # fmt: skip
_ALL = "$__all"
#: Panels that show no data.
_WITHOUT_DATA = ("row", "text", "news", "dashlist", "alertlist", "welcome", "gettingstarted", "annolist", "pluginlist")
#: Labels that say how a request ended.
_OUTCOMES = ("code", "status", "status_code", "http_status", "grpc_code", "http_response_status_code", "outcome")
_ERROR = re.compile(r"error|fail|exception|reject|probe_success", re.IGNORECASE)
_DURATION = re.compile(r"_bucket$|duration|latency|response_time|_seconds_(?:sum|count)$|_time_seconds", re.IGNORECASE)
_OVER_TIME = re.compile(r"\b(?:rate|irate|increase|delta)\s*\(")
SIGNALS = ("rate", "errors", "duration")


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    #: Title of its dashboard and of its panel, and what the panel calls it.
    dashboard: str
    panel: str
    ref: str
    #: With the values of variables.
    text: str
    #: Why it cannot be asked; empty where it can.
    why_not: str = ""
    #: Whether a setting would change that; another kind of data source is none of Prometheus'.
    fixable: bool = True

    @property
    def where(self) -> str:
        """By which a person finds the panel."""
        return f"{self.dashboard} / {self.panel}"


def queries(dashboard: Mapping[str, Any]) -> list[Query]:
    """All queries of a dashboard, those too that cannot be asked.

    :raises AttributeError, LookupError, TypeError, ValueError: it is no dashboard
    """
    title = str(dashboard["title"])
    variables = (dashboard.get("templating") or {}).get("list") or []
    values, of_all = _values(variables)
    return [query for panel in _panels(dashboard) for query in _of_panel(title, panel, values, of_all)]


def _panels(of: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Panels, those too that lie in rows, open or folded."""
    for row in of.get("rows") or []:
        yield from _panels(row)
    for panel in of.get("panels") or []:
        yield panel
        yield from _panels(panel)


def _values(variables: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], set[str]]:
    """Values of variables, and names of those that stand for all values by a pattern."""
    found = dict(_OF_GRAFANA)
    of_all: set[str] = set()
    for each in variables:
        name, kind = str(each["name"]), str(each.get("type"))
        current = (each.get("current") or {}).get("value")
        if kind in ("constant", "textbox") and not current:
            current = each.get("query")
        if kind == "interval":
            first = str(each.get("query") or "").split(",")[0].strip()
            current = first if current in (None, "", "auto") or str(current).startswith("$__auto") else current
        if isinstance(current, list):
            current = current[0] if len(current) == 1 else None if not current else "|".join(map(str, current))
        if current in (None, "") and each.get("includeAll"):
            current = _ALL
        if current == _ALL:
            of_all.add(name)
            current = each.get("allValue") or ".*"
        if isinstance(current, str) and current:
            found[name] = current
    return found, of_all


def _of_panel(title: str, panel: Mapping[str, Any], values: Mapping[str, str], of_all: set[str]) -> Iterator[Query]:
    name = str(panel.get("title") or f"panel {panel.get('id')}")
    if panel.get("type") in _WITHOUT_DATA:
        return
    if panel.get("libraryPanel") and not panel.get("targets"):
        yield Query(title, name, "", "", "it is a library panel, whose queries are not in the dashboard")
        return
    for target in panel.get("targets") or []:
        if target.get("hide"):
            continue
        yield _query(title, name, panel, target, values, of_all)


def _query(
    title: str, name: str, panel: Mapping[str, Any], target: Mapping[str, Any], values: Mapping[str, str],
    of_all: set[str],
) -> Query:  # fmt: skip
    ref, text = str(target.get("refId") or ""), str(target.get("expr") or "")
    source = target.get("datasource") or panel.get("datasource")
    kind = source.get("type") if isinstance(source, dict) else None
    if (kind or "prometheus") != "prometheus" or not text:
        return Query(title, name, ref, text, f"it asks no Prometheus ({kind or 'it has no expr'})", fixable=False)
    full, missing = promql.expand(text, values)
    if missing:
        return Query(
            title, name, ref, text, f"the variable {missing[0]} has no value in the dashboard; save it with one"
        )
    for variable in of_all:
        # As an equal a pattern finds nothing, whatever there is.
        if re.search(rf'[^!=<>]=\s*"(?:\$\{{?|\[\[){variable}\b', text):
            return Query(
                title, name, ref, text, f"the variable {variable} stands for all values, and is compared by '='"
            )
    return Query(title, name, ref, full)


# --- judged -----------------------------------------------------------------------------------------------------------


def closest(metric: str, there: Sequence[str]) -> str:
    """The metric that it may be called now; empty where none is close.

    >>> closest("http_requests_total", ["http_server_requests_total", "go_info"]), closest("up", ["go_info"])
    ('http_server_requests_total', '')
    """
    return next(iter(get_close_matches(metric, there, 1, 0.75)), "")


def renamed(metric: str, there: Sequence[str]) -> str:
    """What to do about a metric that is gone."""
    found = closest(metric, there)
    return f"it may be called {found} now" if found else "its exporter may be gone, or no longer scraped"


def missing_metrics(used: Mapping[str, Sequence[str]], there: Sequence[str]) -> list[Finding]:
    """Findings of metrics that panels ask for and that are gone.

    :param used: by metric, where it is used; only those that are gone
    """
    return [
        Finding(
            finding_id("metric_gone", metric), "metric_gone", "warning", metric,
            {"panels": list(places)[:20], "closest": closest(metric, there)},
            f"{metric} has had no sample for an hour: {renamed(metric, there)}. Used by {some(list(places))}.",
            risk="Correct the panels, or bring the exporter back.",
        )
        for metric, places in sorted(used.items())
    ]  # fmt: skip


#: From so many metrics on a dashboard of which all are gone is one finding.
MANY_GONE = 5


def missing_dashboard(title: str, metrics: Iterable[str]) -> Finding:
    """A finding of a dashboard whose metrics are all gone."""
    asked = sorted(metrics)
    return Finding(
        finding_id("metric_gone", title), "metric_gone", "warning", title, {"metrics": asked[:20]},
        f"None of the {count(len(asked), 'metric')} of the dashboard {title} has had a sample for an hour.",
        risk="Let Prometheus collect them, or take the dashboard away.",
    )  # fmt: skip


def empty_panel(where: str, empty: Sequence[Query], *, of: int, days: int) -> Finding:
    """A finding of a panel some of whose queries give nothing.

    :param of: how many queries the panel has
    """
    # What keeps only bad values is empty while all is well.
    may_be = len(empty) < of or all(promql.filters(each.text) for each in empty)
    return Finding(
        finding_id("panel_empty", *where.split(" / ", 1)), "panel_empty", "info" if may_be else "warning", where,
        {"queries": [each.text for each in empty]},
        f"{where}: {len(empty)} of {of} queries gave nothing in {days} days.",
        risk="Correct its query, or delete it."
        + (" It may be meant to be empty while all is well." if may_be else ""),
    )  # fmt: skip


def alert_metrics(listed: Iterable[Rule]) -> set[str]:
    """Metrics that alerts ask for."""
    return {metric for rule in listed if _asks(rule) for metric in promql.metrics(rule.query)}


def blind(listed: Iterable[Rule], gone: frozenset[str]) -> dict[str, set[str]]:
    """Alerts that cannot fire, each with the metrics that are gone; several rules may have one alert's name."""
    found: dict[str, set[str]] = {}
    for rule in filter(_asks, listed):
        asked = promql.metrics(rule.query)
        missing = asked & gone
        if missing and (missing == asked or not promql.has_alternatives(rule.query)):
            found.setdefault(rule.name, set()).update(missing)
    return found


def _asks(rule: Rule) -> bool:
    # A rule that is about absence wants just that.
    return rule.kind == "alerting" and not promql.is_of_absence(rule.query)


def broken_rule(name: str, gone: Sequence[str], there: Sequence[str]) -> Finding:
    """A finding of an alert rule that cannot fire, since a metric of it is gone."""
    said = "; ".join(f"{each}: {renamed(each, there)}" for each in gone)
    return Finding(
        finding_id("alert_blind", name), "alert_blind", "critical", name, {"metrics": list(gone)},
        f"The alert {name} asks for what is not there, so it cannot fire. {said}.",
        risk="Correct the rule, or delete it.",
    )  # fmt: skip


def failing_rule(name: str, said: str) -> Finding:
    """A finding of a rule that Prometheus cannot evaluate."""
    return Finding(
        finding_id("rule_failing", name), "rule_failing", "critical", name, {"error": said[:300]},
        f"The rule {name} cannot be evaluated: {said[:300]}.", risk="Correct the rule.",
    )  # fmt: skip


def unseen(service: str, signals: Sequence[str]) -> Finding:
    """A finding of a service that no panel shows as it should."""
    return Finding(
        finding_id("service_unseen", service), "service_unseen", "warning", service, {"signals": list(signals)},
        f"No panel shows {' and '.join(signals)} of {service}.",
        risk="Add panels for them, or correct the labels that the inventory gives the service.",
    )  # fmt: skip


def signals(query: str) -> Iterator[tuple[str, promql.Selector]]:
    """Which signals a query shows, each with the selector that it comes from."""
    moves = bool(_OVER_TIME.search(query))
    for each in promql.selectors(query):
        if "histogram_quantile" in query or _DURATION.search(each.metric):
            yield "duration", each
            if not each.metric.endswith("_count"):
                continue
        of_outcome = [value for label, _, value in each.matchers if label in _OUTCOMES]
        if _ERROR.search(each.metric) or of_outcome:
            yield "errors", each
        elif moves:
            yield "rate", each
