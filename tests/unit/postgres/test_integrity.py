"""How findings about a database become one answer."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.integrity import (
    NAMED,
    Check,
    Finding,
    SequenceUse,
    conclude,
    judge_sequence,
    overall,
)

USE = SequenceUse(QualifiedName("public", "s"), QualifiedName("public", "t"), "id", 1, 10, True, False, 10)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "ok"),  # 11 comes next, 10 is the last
        ({"extreme": 11}, "breach"),
        ({"is_called": False}, "breach"),  # 10 comes next
        ({"is_called": False, "extreme": 9}, "ok"),
        ({"extreme": None}, "ok"),
        ({"extreme": 99, "cycles": True}, "ok"),
        ({"increment": 50, "extreme": 59}, "ok"),
        ({"increment": -1, "extreme": 10}, "ok"),
        ({"increment": -1, "extreme": 9}, "breach"),
    ],
)
def test_sequence(change: dict[str, object], status: str) -> None:
    assert judge_sequence(dataclasses.replace(USE, **change)).status == status  # type: ignore[arg-type] # of many types


def test_breach_outweighs_unknown() -> None:
    findings = [
        Finding("indexes", "public.a", "ok"),
        Finding("indexes", "public.b", "unknown", "is locked"),
        Finding("indexes", "public.c", "breach", "is invalid"),
        Finding("sequences", "public.s", "breach", "of another kind"),
    ]
    check = conclude("indexes", findings)
    assert (check.status, check.objects) == ("breach", 3)
    assert check.msg == "1 of 3 indexes not in order: public.c is invalid."
    assert conclude("indexes", findings[:2]).msg == "1 of 2 indexes not known: public.b is locked."
    assert conclude("indexes", findings[:1]).msg == "1 index. All are valid."


def test_long_lists_are_cut() -> None:
    findings = [Finding("foreign_keys", f"public.t{n}.fk", "breach", "has orphans") for n in range(NAMED + 3)]
    assert conclude("foreign_keys", findings).msg.endswith("; and 3 more.")


def test_nothing_to_check_is_fine_but_no_check_is_unknown() -> None:
    assert conclude("smoke", []).status == "ok"
    assert overall([]) == "unknown"
    assert overall([Check("smoke", "ok", "", 0), Check("indexes", "unknown", "", 1)]) == "unknown"
    assert overall([Check("smoke", "breach", "", 0), Check("indexes", "unknown", "", 1)]) == "breach"
