"""The health of a database: each limit at its border, statements that are exact, and what is hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import health as rule
from ansible.module_utils.runbook.rules.postgres.health import Key, Limits, Prepared, Server, Session, Setting, Slot
from ansible.module_utils.runbook.rules.postgres.indexes import Table

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.findings import Finding

LIMITS = Limits(
    xid_age=500_000_000, key_percent=75, idle_transaction_s=300, long_transaction_s=3600, slot_wal_bytes=1 << 30
)
SOUND = Server("app", [("app", 1, 1)], [], [], [], [], {}, 1 << 30, 100, 0, 0)
SEQUENCE, TABLE = QualifiedName("public", "s"), QualifiedName("public", "t")
INT_MAX = 2_147_483_647


def quote(*parts: str) -> str:
    return ".".join(f'"{part}"' for part in parts)


def judged(tables: list[Table] | None = None, **more: Any) -> list[Finding]:
    return rule.judge(tables or [], replace(SOUND, **more), quote, LIMITS)[0]


def unknown(**more: Any) -> list[str]:
    return [one.kind for one in rule.judge([], replace(SOUND, **more), quote, LIMITS)[1]]


def table(**more: Any) -> Table:
    return Table(1, TABLE, "r", "app", 4096, 7, **more)


def session(**more: Any) -> Session:
    idle = Session(7, "2026-03-08", "u", "web", "idle in transaction", 300.0, 300.0, terminate="SELECT 7")
    return replace(idle, **more)


def test_a_sound_server():
    assert judged([table(xid_age=499_999_999, mxid_age=0), table()]) == []
    assert unknown() == []


# --- wraparound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "severity"),
    [
        ({"xid_age": 500_000_000}, "warning"),
        ({"mxid_age": 500_000_000}, "warning"),
        ({"xid_age": 1_072_241_823}, "warning"),
        ({"xid_age": 1_072_241_824}, "critical"),
        ({"xid_age": 600_000_000, "mxid_age": 600_000_000}, "warning"),
    ],
)
def test_a_table_near_wraparound(ages: dict[str, int], severity: str) -> None:
    [found] = judged([table(**ages)])
    assert (found.id, found.severity) == ("wraparound:public.t", severity)
    assert found.ddl == ('VACUUM (FREEZE) "public"."t"',)


def test_another_database_of_the_server():
    [found] = judged(databases=[("app", 900_000_000, 1), ("other", 1, 500_000_000), ("young", 5, 5)])
    assert found.id == "wraparound_database:other"


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "percent"),
    [
        (Key(SEQUENCE, TABLE, "id", "integer", 1_975_684_955), 92.0),
        (Key(SEQUENCE, TABLE, "id", "integer", 1_975_684_955, limit=INT_MAX), 92.0),
        (Key(None, TABLE, "id", "integer", 1_975_684_955), 92.0),
        (Key(SEQUENCE, TABLE, "id", "smallint", 32_767), 100.0),
        (Key(SEQUENCE, TABLE, "id", "bigint", INT_MAX), 0.0),
        (Key(SEQUENCE, None, None, "bigint", 900, limit=1000), 90.0),
        (Key(SEQUENCE, None, None, "integer", -1_610_612_736, first=-1, limit=-2_147_483_648), 75.0),
        (Key(SEQUENCE, TABLE, "id", "integer", None), None),
        (Key(SEQUENCE, None, None, "integer", 5, first=5, limit=5), 100.0),
        (Key(SEQUENCE, TABLE, "id", "uuid", 5), 0.0),
    ],
)
def test_how_much_of_a_key_is_used(key: Key, percent: float | None) -> None:
    assert key.used_percent() == percent


@pytest.mark.parametrize(
    ("value", "severity"),
    [(1_609_000_000, None), (1_610_612_736, "warning"), (2_039_000_000, "warning"), (2_040_109_465, "critical")],
)
def test_a_key_near_its_end(value: int, severity: str | None) -> None:
    found = judged(keys=[Key(SEQUENCE, TABLE, "id", "integer", value)])
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert [one.id for one in found] == (["key_near_end:public.t.id"] if severity else [])
    assert all(one.ddl == () for one in found)


def test_one_column_is_one_finding_and_the_worst_counts():
    keys = [Key(SEQUENCE, TABLE, "id", "integer", 1_700_000_000), Key(None, TABLE, "id", "integer", 2_000_000_000)]
    for order in (keys, keys[::-1]):
        [found] = judged(keys=order)
        assert found.evidence["last_value"] == 2_000_000_000


@pytest.mark.parametrize(
    ("key", "ddl"),
    [
        (Key(SEQUENCE, None, None, "integer", INT_MAX), 'ALTER SEQUENCE "public"."s" AS bigint'),
        (Key(SEQUENCE, None, None, "bigint", 99, limit=100), 'ALTER SEQUENCE "public"."s" NO MAXVALUE'),
        (Key(SEQUENCE, TABLE, "id", "bigint", 99, limit=100), 'ALTER SEQUENCE "public"."s" NO MAXVALUE'),
    ],
)
def test_a_sequence_that_can_be_widened(key: Key, ddl: str) -> None:
    assert judged(keys=[key])[0].ddl == (ddl,)


def test_a_sequence_that_starts_over_never_ends_and_a_hidden_one_is_unknown():
    assert judged(keys=[Key(SEQUENCE, TABLE, "id", "integer", INT_MAX, cycles=True)]) == []
    assert unknown(keys=[Key(SEQUENCE, TABLE, "id", "integer", None, readable=False)]) == ["key_near_end"]


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        ({}, ["idle_transaction"]),
        ({"state_s": 299.9}, []),
        ({"state_s": 299.9, "transaction_s": 9999.0}, []),
        ({"state": "idle in transaction (aborted)"}, ["idle_transaction"]),
        ({"state": "active", "transaction_s": 3600.0}, ["long_transaction"]),
        ({"state": "active", "transaction_s": 3599.9}, []),
        ({"state": "idle", "transaction_s": None, "state_s": 99999.0}, []),
        ({"state": None, "transaction_s": None, "state_s": None}, []),
    ],
)
def test_sessions_that_hold_on(more: dict[str, Any], kinds: list[str]) -> None:
    found = judged(sessions=[session(**more)])
    assert [one.kind for one in found] == kinds
    assert all(one.id == f"{one.kind}:7" and one.ddl == ("SELECT 7",) for one in found)


def test_hidden_sessions_are_unknown():
    hidden = session(state=None, transaction_s=None, state_s=None, hidden=True)
    assert unknown(sessions=[hidden]) == ["idle_transaction", "long_transaction"]


def test_prepared_transactions():
    assert judged(prepared=[Prepared("g", 299.9, "ROLLBACK PREPARED 'g'")]) == []
    [found] = judged(prepared=[Prepared("g", 300.0, "ROLLBACK PREPARED 'g'")])
    assert found.ddl == ("ROLLBACK PREPARED 'g'",)


# --- slots, pages, settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "severity", "ddl"),
    [
        (Slot("s", "logical", False, "reserved", 1 << 30, "DROP"), "warning", ("DROP",)),
        (Slot("s", "logical", False, "reserved", (1 << 30) - 1, "DROP"), None, ()),
        (Slot("s", "logical", False, "reserved", None, "DROP"), None, ()),
        (Slot("s", "physical", True, "extended", 1 << 31, "DROP"), "warning", ()),
        (Slot("s", "physical", False, "lost", None, "DROP"), "critical", ("DROP",)),
        (Slot("s", "physical", True, "unreserved", 5, "DROP"), "critical", ()),
    ],
)
def test_slots_that_hold_wal(slot: Slot, severity: str | None, ddl: tuple[str, ...]) -> None:
    found = judged(slots=[slot])
    assert [(one.id, one.severity, tuple(one.ddl)) for one in found] == (
        [("replication_slot:s", severity, ddl)] if severity else []
    )


def test_checksum_failures():
    [found] = judged(checksum_failures=2)
    assert (found.kind, found.severity, found.ddl) == ("checksum_failures", "critical", ())
    assert unknown(checksum_failures=None) == ["checksum_failures"]


@pytest.mark.parametrize(
    ("hit", "read", "percent", "found"),
    [
        (0, 0, None, False),
        (2_490_368, 131_072, 95.0, False),
        (2_000_000, 131_072, 93.85, True),
        (2_000, 131_071, 1.5, False),
    ],
)
def test_a_cold_cache(hit: int, read: int, percent: float | None, found: bool) -> None:
    server = replace(SOUND, hit_pages=hit, read_pages=read)
    assert rule.cache_hit_percent(server) == percent
    assert [one.kind for one in judged(hit_pages=hit, read_pages=read)] == (["cache_hit_ratio"] if found else [])


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("fsync", "off", "critical"),
        ("fsync", "on", None),
        ("autovacuum", "off", "critical"),
        ("synchronous_commit", "off", "warning"),
        ("synchronous_commit", "local", None),
        ("synchronous_commit", "remote_apply", None),
        ("enable_seqscan", "off", "warning"),
        ("shared_buffers", "16384", None),
    ],
)
def test_settings(name: str, value: str, severity: str | None) -> None:
    found = judged(settings={name: Setting(value, "configuration file")})
    assert [(one.id, one.severity) for one in found] == ([(f"setting:{name}", severity)] if severity else [])


@pytest.mark.parametrize(
    ("source", "ddl"),
    [
        ("configuration file", ("ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")),
        ("database", ('ALTER DATABASE "app" RESET fsync',)),
        ("command line", ()),
        ("user", ()),
    ],
)
def test_a_setting_is_undone_where_it_was_set(source: str, ddl: tuple[str, ...]) -> None:
    [found] = judged(settings={"fsync": Setting("off", source)})
    assert found.ddl == ddl
    assert found.risk.endswith(".")


def test_the_default_of_shared_buffers_is_too_little_for_a_big_database():
    default = {"shared_buffers": Setting("16384", "default")}
    assert [one.object for one in judged(settings=default, database_bytes=8 << 30)] == ["shared_buffers"]
    assert judged(settings=default, database_bytes=(8 << 30) - 1) == []
    assert judged(settings={"shared_buffers": Setting("16385", "default")}, database_bytes=8 << 30) == []
    assert judged(settings=default, database_bytes=None) == []


def test_every_finding_has_sentences():
    for found in judged(
        [table(xid_age=700_000_000)],
        keys=[Key(SEQUENCE, TABLE, "id", "integer", INT_MAX)],
        sessions=[session(application=None, user=None)],
        slots=[Slot("s", "logical", False, "lost", None, "DROP"), Slot("q", "logical", True, "reserved", 1 << 40, "D")],
        checksum_failures=1,
        hit_pages=1,
        read_pages=1 << 20,
        settings={"fsync": Setting("off", "default")},
    ):
        assert found.msg.endswith(".")
        assert found.risk.endswith(".")
        assert "None" not in found.msg
