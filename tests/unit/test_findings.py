"""The shape of a finding: ids that last and can be typed, order, bounds, and what the whole amounts to."""

from __future__ import annotations

import doctest
import re

import pytest
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.findings import Estimate, Finding, Severity, Unknown


def finding(name: str = "a", severity: Severity = "info", kind: str = "unused_index") -> Finding:
    return Finding(findings.finding_id(kind, name), kind, severity, name, {"scans": 0}, f"{name} is unused.")


RIGHTS = Unknown("long_transaction", "Sessions of others are hidden; GRANT pg_read_all_stats.")
TIME = Unknown("unused_index", "The statistics are 2 days old.", fixable=False)


def test_doctests():
    assert doctest.testmod(findings).failed == 0


@pytest.mark.parametrize("name", ["a b", 'say "hi"', "ä" * 31, "x;y", "$(rm)", "a.b", "tab\t", "-rf", "{{ x }}", "a=b"])
def test_an_id_can_be_typed_without_quotes(name: str) -> None:
    made = findings.finding_id("unused_index", "public", name)
    assert re.fullmatch(r"[A-Za-z0-9_.:-]+", made)
    assert made == findings.finding_id("unused_index", "public", name)
    assert made.startswith("unused_index:public.")


def test_two_names_are_two_ids():
    names = ["a b", "a_b", "a;b", "a  b", "a.b", "ä", "ö", "A_B"]
    assert len({findings.finding_id("k", name) for name in names}) == len(names)


def test_the_worst_comes_first():
    found = findings.ordered([finding("b"), finding("a"), finding("c", "critical"), finding("d", "warning")])
    assert [one.object for one in found] == ["c", "d", "a", "b"]


def test_a_kind_is_bounded_and_what_is_left_out_is_counted():
    many = [finding(f"i{number}") for number in range(findings.MAX_OF_A_KIND + 7)] + [finding("x", kind="other")]
    kept, left_out = findings.bounded(many)
    assert len(kept) == findings.MAX_OF_A_KIND + 1
    assert left_out == {"unused_index": 7}
    assert findings.bounded(many[: findings.MAX_OF_A_KIND]) == (many[: findings.MAX_OF_A_KIND], {})


@pytest.mark.parametrize(
    ("found", "unknown", "expected"),
    [
        ([], [], "ok"),
        ([finding(severity="warning")], [], "ok"),
        ([], [TIME], "ok"),
        ([], [RIGHTS], "unknown"),
        ([finding(severity="warning")], [TIME, RIGHTS], "unknown"),
        ([finding(severity="critical")], [RIGHTS], "breach"),
    ],
)
def test_status(found: list[Finding], unknown: list[Unknown], expected: str) -> None:
    assert findings.status(found, unknown) == expected


def test_the_sentence_counts_and_names():
    found = [finding("c", "critical"), finding("a")]
    text = findings.message(found, [RIGHTS], of="41 indexes")
    assert text == (
        "2 findings (1 critical, 1 info) in 41 indexes: unused_index:c, unused_index:a; not judged: long_transaction."
    )
    assert findings.message([], [], of="41 indexes") == "No findings in 41 indexes."


def test_the_result_is_plain_data():
    one = Finding("k:a", "k", "info", "a", {"size_bytes": 1}, "A.", ("DROP INDEX a",), "None.", Estimate(9.0, 1.5))
    [entry] = findings.results([one], [RIGHTS], of="1 index")["findings"]
    assert entry == {
        "id": "k:a",
        "kind": "k",
        "severity": "info",
        "object": "a",
        "evidence": {"size_bytes": 1},
        "msg": "A.",
        "ddl": ["DROP INDEX a"],
        "risk": "None.",
        "estimated": {"cost_before": 9.0, "cost_after": 1.5},
    }
    assert findings.results([finding()], [], of="1 index")["findings"][0]["estimated"] is None
