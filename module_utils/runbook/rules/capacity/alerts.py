"""Alert rules on quantities, made from their limits and growth, with their tests for promtool; offered as files.

A rule fires early enough: at the value from which the growth that p90 has meets the limit within the days that making
room takes. It asks the metric that each run of ``capacity.yml`` writes, so that one form fits every source.
"""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.capacity.outlook import Outlook

#: Shares of the limit between which the threshold of a quantity lies.
_LEAST, _MOST = 0.5, 0.95
#: Lines of a difference that are kept.
MOST_LINES = 400


@dataclass(frozen=True)
class Rule:
    """One alert."""

    environment: str
    host: str
    quantity: str
    threshold: float
    limit: float
    #: As people read it.
    said: str
    severity: str = "warning"

    @property
    def alert(self) -> str:
        """Its name.

        >>> Rule("production", "db1", "database_size", 5.0, 6.0, "5 B of 6 B").alert
        'RunbookCapacityDatabaseSize'
        """
        return f"RunbookCapacity{''.join(word.capitalize() for word in self.quantity.split('_'))}"

    @property
    def series(self) -> str:
        """The metric that it asks."""
        labels = {"environment": self.environment, "host": self.host, "quantity": self.quantity}
        inside = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        return f"runbook_capacity_value{{{inside}}}"

    @property
    def summary(self) -> str:
        """What is said when it fires."""
        return f"{self.quantity} of {self.host} ({self.environment}) is above {self.said}."


def rules(outlooks: Sequence[Outlook], *, environment: str, host: str, lead_days: int) -> list[Rule]:
    """A rule for each quantity with a limit and a forecast."""
    found = []
    for each in outlooks:
        ahead, now, limit = each.ahead(lead_days), each.now, each.limit
        if ahead is None or now is None or limit is None:
            continue
        growth = max(0.0, ahead[1] - now)
        threshold = _rounded(min(max(limit.value - growth, _LEAST * limit.value), _MOST * limit.value))
        bytes_ = each.quantity.unit == "bytes"
        values = [size(value) if bytes_ else f"{value:,.0f}" for value in (threshold, limit.value)]
        said = f"{values[0]} of {values[1]}" + ("" if bytes_ else f" {each.quantity.unit}")
        found.append(Rule(environment, host, each.quantity.name, threshold, limit.value, said))
    return found


def rule_file(made: Sequence[Rule], *, lead_days: int) -> str:
    """The rules as a file for Prometheus."""
    lines = [
        "# Made by capacity.yml from limits and growth; compare it with the file in use, then put it in its place.",
        "groups:",
        "  - name: runbook-capacity-limits",
        "    rules:" if made else "    rules: []",
    ]
    for rule in made:
        lines += [
            f"      - alert: {rule.alert}",
            f"        expr: {json.dumps(f'max by (environment, host, quantity) ({rule.series}) > {rule.threshold:g}')}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          description: {json.dumps(_description(lead_days))}",
        ]
    return "\n".join(lines) + "\n"


def test_file(made: Sequence[Rule], *, lead_days: int, rule_file_name: str) -> str:
    """Their tests, for ``promtool test rules``: each is quiet below its threshold, and fires above it."""
    lines = [f"# promtool test rules; beside {rule_file_name}.", "rule_files:", f"  - {rule_file_name}",
             "evaluation_interval: 1h", "tests:" if made else "tests: []"]  # fmt: skip
    for rule in made:
        values = f"{rule.threshold * 0.99:g} {rule.threshold * 1.01:g}"
        lines += [
            "  - interval: 1h",
            "    input_series:",
            f"      - series: {json.dumps(rule.series)}",
            f"        values: {values}",
            "    alert_rule_test:",
            "      - eval_time: 0h",
            f"        alertname: {rule.alert}",
            "        exp_alerts: []",
            "      - eval_time: 1h",
            f"        alertname: {rule.alert}",
            "        exp_alerts:",
            "          - exp_labels:",
            f"              severity: {rule.severity}",
            f"              environment: {json.dumps(rule.environment)}",
            f"              host: {json.dumps(rule.host)}",
            f"              quantity: {json.dumps(rule.quantity)}",
            "            exp_annotations:",
            f"              summary: {json.dumps(rule.summary)}",
            f"              description: {json.dumps(_description(lead_days))}",
        ]
    return "\n".join(lines) + "\n"


def difference(today: str, offered: str, *, name: str) -> list[str]:
    """What would change, as ``diff -u`` shows it; empty where nothing does."""
    lines = difflib.unified_diff(
        today.splitlines(), offered.splitlines(), f"{name} in use", f"{name} offered", lineterm="", n=2
    )
    return list(lines)[:MOST_LINES]


def _description(lead_days: int) -> str:
    return (
        f"At the growth that may come one time in ten, its limit is met within {lead_days} days. The report of the "
        "last run of capacity.yml says which step comes next and what it costs."
    )


def _rounded(value: float) -> float:
    """Three digits, so that the file does not change with every byte.

    >>> _rounded(123_456.0), _rounded(0.0)
    (123000.0, 0.0)
    """
    if not value:
        return 0.0
    digits = 2 - math.floor(math.log10(abs(value)))
    return round(value, digits)
