"""How findings about a database become one answer."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.integrity import NAMED, SequenceUse, judge_sequence, sum_up
from ansible.module_utils.runbook.rules.status import Check

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
    answers = [
        Check.ok("indexes", subject="public.a"),
        Check.unknown("indexes", "is locked", "public.b"),
        Check.breach("indexes", "is invalid", "public.c"),
        Check.breach("sequences", "of another kind", "public.s"),
    ]
    check = sum_up("indexes", answers)
    assert check == Check.breach("indexes", "1 of 3 indexes not in order: public.c is invalid.")
    assert sum_up("indexes", answers[:2]).msg == "1 of 2 indexes not known: public.b is locked."
    assert sum_up("indexes", answers[:1]).msg == "1 index. All are valid."


def test_long_lists_are_cut() -> None:
    answers = [Check.breach("foreign_keys", "has orphans", f"public.t{n}.fk") for n in range(NAMED + 3)]
    assert sum_up("foreign_keys", answers).msg.endswith("; and 3 more.")


def test_nothing_to_check_is_fine() -> None:
    assert sum_up("smoke", []) == Check.ok("smoke", "No smoke query to check.")
