"""Lints of Supabase's advisors become findings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, ordered
from ansible.module_utils.runbook.rules.supabase import advisors
from fakes.supabase import lint


def findings(*lints: dict[str, Any]) -> list[Finding]:
    return ordered(advisors.findings(advisors.parse({"lints": list(lints)})))


def test_every_lint_has_one_category():
    names = [name for names in advisors.LINTS.values() for name in names]
    assert len(names) == len(set(names))
    assert not advisors.UNCHECKED & set(names)


def test_severities_of_levels():
    levels = ["INFO", "ERROR", "WARN", "SOMETHING"]
    found = findings(*(lint("unused_index", cache_key=level, level=level) for level in levels))
    assert [(one.evidence["level"], one.severity) for one in found] == [
        ("ERROR", "critical"),
        ("SOMETHING", "warning"),
        ("WARN", "warning"),
        ("INFO", "info"),
    ]


def test_a_lint_of_the_project_has_no_object():
    assert findings(lint("pitr_not_enabled", metadata=None))[0].object == "the project"
    assert findings(lint("pitr_not_enabled", metadata={"type": "compliance"}))[0].object == "the project"


def test_an_id_is_safe_to_type_and_comes_once():
    odd = lint("unused_index", cache_key='unused_index_public_"$(x) y')
    found = findings(odd, odd)
    assert len(found) == 1
    assert re.fullmatch(r"supabase:unused_index_public_[A-Za-z_]+-[0-9a-f]{8}", found[0].id)


def test_a_sentence_is_one_line_and_bounded():
    found = findings(lint("unused_index", detail="a \\`b\\`\nc " + "d" * 1000))
    assert found[0].msg.startswith("a b c d")
    assert len(found[0].msg) == 400


def test_both_versions_of_the_answer_are_read():
    one = lint("unused_index")
    assert advisors.parse({"lints": [one]}) == advisors.parse({"data": {"attributes": {"lints": [one]}}})


@pytest.mark.parametrize("body", [None, [], {}, {"lints": {}}, {"lints": [3]}, {"data": []}])
def test_another_shape_is_unknown(body):
    with pytest.raises(RunbookError) as error:
        advisors.parse(body)
    assert error.value.context["status"] == "unknown"
    assert "nothing was judged" in error.value.message


def test_what_was_not_checked_is_no_finding():
    lints = advisors.parse({"lints": [lint("project_not_active", title="Paused", detail="It sleeps.")]})
    assert advisors.findings(lints) == []
    assert [(one.kind, one.msg, one.fixable) for one in advisors.unknown(lints)] == [
        ("supabase_project_not_active", "Paused: It sleeps.", True)
    ]
