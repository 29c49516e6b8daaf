"""Bloat that is worth a finding."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.bloat import Bloat, Relation
from ansible.module_utils.runbook.rules.postgres.bloat_findings import findings

MIB = 1 << 20


def bloat(size_bytes: int, expected_bytes: int | None, **of_relation: Any) -> Bloat:
    table = QualifiedName("public", "messages")
    values: dict[str, Any] = {
        "oid": 1, "name": table, "kind": "r", "access_method": "heap", "size_bytes": size_bytes, "planner_rows": 1.0,
        "live_rows": 1, "dead_rows": 0, "counted": True, "fillfactor": None, "table": table,
    }  # fmt: skip
    return Bloat(Relation(**(values | of_relation)), "estimated", expected_bytes)


def found(*bloats: Bloat) -> list[Any]:
    return findings(bloats, min_bloat_percent=40, min_bloat_bytes=8 * MIB, ddl=lambda one: f"FIX {one.relation.name}")


@pytest.mark.parametrize(
    ("size_bytes", "expected_bytes", "worth"),
    [
        (20 * MIB, 12 * MIB, True),  # exactly both limits
        (20 * MIB, 12 * MIB + 8192, False),  # a page less of either
        (100 * MIB, 70 * MIB, False),
        (10 * MIB, 2 * MIB + 8192, False),
        (100 * MIB, None, False),
        (0, 0, False),
    ],
)
def test_limits(size_bytes, expected_bytes, worth):
    assert bool(found(bloat(size_bytes, expected_bytes))) is worth


def test_a_table_an_index_and_toast_are_three_findings():
    index = {"kind": "i", "name": QualifiedName("public", "messages_a"), "access_method": "btree"}
    toast = {"kind": "t", "name": QualifiedName("pg_toast", "pg_toast_42")}
    made = found(*(bloat(20 * MIB, 0, **of) for of in ({}, index, toast)))
    assert [one.id for one in made] == [
        "bloated_table:public.messages",
        "bloated_index:public.messages_a",
        "bloated_table:public.messages.toast",
    ]
    assert [one.object for one in made] == ["public.messages", "public.messages_a", "public.messages, TOAST"]
    assert made[1].ddl == ("FIX public.messages_a",)
    assert "Locks everybody out" in made[0].risk
    assert "Everybody goes on" in made[1].risk
    assert made[0].msg == "100.0 % of the 20.0 MiB of public.messages is bloat (20.0 MiB, estimated)."


def test_the_server_s_own_tables_are_none():
    assert found(bloat(20 * MIB, 0, is_catalog=True)) == []
