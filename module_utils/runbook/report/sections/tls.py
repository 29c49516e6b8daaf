"""Certificates that servers show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges, wording
from ansible.module_utils.runbook.report.section import (
    MAX_ROWS,
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    Table,
    each_step,
    ended_s,
    lists,
    summed,
)
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Panel, Record, Step, Value

#: A metric's value for a status; what could not be judged is no number.
_VALUES = {Status.OK: 1.0, Status.BREACH: 0.0, Status.UNKNOWN: math.nan}
_MOMENTS = {"not_before": "not_before", "not_after": "not_after", "due": "due_at", "critical": "critical_at"}


#: Of these the moments say more than a red check.
_AGES = {"current", "due", "critical"}


def _lasting(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    otherwise = {each.get("endpoint") for each in lists(figures, "addresses") if each.get("renewal") not in _AGES}
    statuses: dict[str, list[Status]] = {}
    for each in lists(figures, "checks"):
        if each.get("name") != "lifetime" or each.get("subject") in otherwise:
            statuses.setdefault(str(each.get("subject")), []).append(Status(str(each.get("status"))))
    if not statuses:
        return {}
    found: dict[str, Value] = {
        "tls_ok": {endpoint: _VALUES[worst(each)] for endpoint, each in statuses.items()},
        "tls_last_check_timestamp_seconds": ended_s(step),
    }
    for name, key in _MOMENTS.items():
        first: dict[str, float] = {}
        for each in lists(figures, "addresses"):
            moment, endpoint = epoch_s(each.get(key)), str(each.get("endpoint"))
            if moment is not None:
                first[endpoint] = min(moment, first.get(endpoint, moment))
        if first:
            found[f"tls_{name}_timestamp_seconds"] = first
    return found


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    """By endpoint: how much of the certificate's lifetime is left; what begins to be due has a third."""
    begins, ends, due, critical, well = (
        gauges.by_label(facts, f"tls_{name}")
        for name in (
            "not_before_timestamp_seconds", "not_after_timestamp_seconds", "due_timestamp_seconds",
            "critical_timestamp_seconds", "ok",
        )
    )  # fmt: skip
    lines = []
    for endpoint in sorted({*ends, *well}):
        end, begin = ends.get(endpoint), begins.get(endpoint)
        left = None if end is None or begin is None or end <= begin else (end - now_s) / (end - begin)
        share = None if left is None else min(max(left, 0.0), 1.0)
        text = "not seen" if end is None else f"until {gauges.day(end)}"
        text += "" if share is None else f", {share:.0%} left"
        value = well.get(endpoint, math.nan)
        status, msg = Status.OK, ""
        if end is not None and now_s >= end:
            status, msg = Status.BREACH, "It has expired; renew it."
        elif value == 0:
            status, msg = Status.BREACH, "A check of it is not ok; see the report."
        elif now_s >= critical.get(endpoint, math.inf):
            status, msg = Status.BREACH, "Its renewal failed for long; renew it."
        elif now_s >= due.get(endpoint, math.inf):
            status, msg = Status.BREACH, "It should have been renewed by now; see why it was not."
        elif math.isnan(value):
            status, msg = Status.UNKNOWN, "It could not be judged; see the report."
        lines.append(Line(endpoint, text, status, msg, share, fix="certificates_renew.yml" if end is not None else ""))
    return lines


def _headline(record: Record) -> list[Fact]:
    seen = record["totals"].get("looked_at")
    return [] if seen is None else [("Certificates seen", wording.number(seen))]


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    seen = host["totals"].get("looked_at")
    return [] if seen is None else [f"{count(seen, 'certificate')} seen"]


def _folded(panel: Panel, figures: Mapping[str, Any]) -> Panel:
    """What is well is folded: some ten questions are asked of each endpoint."""
    well = [each for each in lists(figures, "checks") if each.get("status") == Status.OK]
    rows = [[str(each.get(key) or "") for key in ("subject", "name", "msg")] for each in well]
    head = (("Endpoint", ""), ("Check", ""), ("Found", ""))
    table = Table("Checks that are ok", head, rows[:MAX_ROWS], max(len(rows) - MAX_ROWS, 0))
    bad = [each for each in panel.checks if each["status"] != Status.OK]
    return replace(panel, checks=bad, tables=[*panel.tables, *([table] if rows else [])])


def _renewed(host: Mapping[str, Any], planned: bool) -> list[str]:
    totals = host["totals"]
    if planned:
        due = totals.get("certificates_due")
        return [f"{count(due, 'certificate')} due"] if due else []
    loaded = totals.get("certificates_loaded")
    return [f"{count(loaded, 'certificate')} put into use"] if loaded else []


SECTIONS = (
    Section(
        modules=("tls_certificate_info",),
        title="Certificates",
        figures=("endpoints", "looked_at"),
        listings=(
            Listing(
                "addresses",
                "What each address shows",
                {
                    "endpoint": "Endpoint", "address": "Address", "renewal": "Renewal", "days_left": "Days left",
                    "not_after": "Ends", "issuer": "Issuer", "key": "Key",
                },
            ),
        ),
        more=_folded,
        totals=summed("looked_at"),
        headline=_headline,
        did=_did,
        lasting=each_step(_lasting),
        metrics={
            "tls_ok": Metric(
                "1 if every check of the endpoint's certificate is ok, 0 if one is not; due and critical count as ok.",
                "endpoint",
            ),
            "tls_last_check_timestamp_seconds": Metric("When certificates were last looked at."),
            "tls_not_after_timestamp_seconds": Metric("When the endpoint's certificate ends.", "endpoint"),
            "tls_not_before_timestamp_seconds": Metric("From when on the endpoint's certificate is valid.", "endpoint"),
            "tls_due_timestamp_seconds": Metric("From when on that certificate has to be renewed.", "endpoint"),
            "tls_critical_timestamp_seconds": Metric("From when on that is critical.", "endpoint"),
        },
        gauge=Gauge("Certificates", "certificates.yml", _on_board),
    ),
    Section(
        modules=("tls_certificate_renewal_plan",),
        title="Renewal of certificates",
        listings=(
            Listing("due", "What is done", {"name": "Certificate", "act": "Act", "why": "Why", "directory": "Folder"}),
        ),
        totals=lambda steps: (
            {"certificates_due": sum(len(lists(step["figures"], "due")) for step in steps)} if steps else {}
        ),
    ),
    Section(
        modules=("tls_certificate_install",),
        title="Put into use",
        figures=("generation", "previous", "fingerprint", "deleted"),
        totals=lambda steps: (
            {"certificates_loaded": sum(step["state"] == "changed" for step in steps)} if steps else {}
        ),
        did=_renewed,
    ),
    Section(modules=("tls_certificate_served",), title="Seen from outside", figures=("waited_s",)),
    # What they return are requests, chains and addresses that nobody reads.
    Section(modules=("tls_certificate_stored_info",), title="Certificates on the server"),
    Section(modules=("tls_certificate_request",), title="Key and request"),
)  # fmt: skip
