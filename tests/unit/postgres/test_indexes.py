"""Which indexes are findings: each rule at its borders, and what must never be dropped."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.findings import Estimate
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import indexes as rule
from ansible.module_utils.runbook.rules.postgres.indexes import Catalog, ForeignKey, Index, Indexes, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 8, 2, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=90)
MIB = 1 << 20


def quote(*parts: str) -> str:
    return ".".join(f'"{part}"' for part in parts)


def name(text: str) -> QualifiedName:
    return QualifiedName("public", text)


def table(oid: int = 1, named: str = "t", **more: Any) -> Table:
    return replace(Table(oid, name(named), "r", "app", 50 * MIB, 9), **more)


def index(oid: int, named: str, columns: str, **more: Any) -> Index:
    keys = tuple((column, 1, 0, 0) for column in columns.split())
    return replace(Index(oid, name(named), 1, "i", "btree", 20 * MIB, keys, definition="CREATE INDEX …"), **more)


def catalog(*of: Index | Table | ForeignKey, **more: Any) -> Catalog:
    tables = [one for one in of if isinstance(one, Table)] or [table()]
    sound = Catalog(
        {one.oid: one for one in tables},
        [one for one in of if isinstance(one, Index)],
        [one for one in of if isinstance(one, ForeignKey)],
        NOW,
        LONG_AGO,
        counts=True,
        is_standby=False,
        standbys=0,
    )
    return replace(sound, **more)


def judged(
    of: Catalog, *, after_days: int = 30, min_size_bytes: int = 8 * MIB
) -> tuple[dict[str, tuple[str, ...]], list[tuple[str, bool]]]:
    """Ids with their statements, and kinds that could not be judged."""
    found, proposals, unknown = rule.judge(of, quote, unused_after_days=after_days, min_size_bytes=min_size_bytes)
    every = [*found, *(one.finding for one in proposals)]
    assert len({one.id for one in every}) == len(every)
    return {one.id: tuple(one.ddl) for one in every}, [(one.kind, one.fixable) for one in unknown]


USED = {"scans": 5, "last_scan": NOW - timedelta(days=1)}
UNUSED = "unused_index:public.t.i"


# --- unused -----------------------------------------------------------------------------------------------------------


def test_an_index_without_a_scan_is_unused():
    assert judged(catalog(index(2, "i", "1"))) == ({UNUSED: ('DROP INDEX CONCURRENTLY "public"."i"',)}, [])


@pytest.mark.parametrize(
    "more",
    [
        {"is_unique": True},
        {"constraint": "c"},
        {"is_replica_identity": True},
        {"is_referenced": True},
        {"is_building": True},
        {"size_bytes": 8 * MIB - 1},
        {"size_bytes": None},
        {"scans": 1},
        {"scans": 1, "last_scan": NOW - timedelta(days=29)},
        {"created_at": NOW - timedelta(days=29)},
    ],
)
def test_what_is_needed_small_young_or_used_is_not_unused(more: dict[str, Any]) -> None:
    assert judged(catalog(index(2, "i", "1", **more))) == ({}, [])


@pytest.mark.parametrize(
    "more",
    [
        {"size_bytes": 8 * MIB},
        {"scans": 7, "last_scan": NOW - timedelta(days=30)},
        {"created_at": NOW - timedelta(days=30)},
    ],
)
def test_at_the_limit_it_is_unused(more: dict[str, Any]) -> None:
    assert list(judged(catalog(index(2, "i", "1", **more)))[0]) == [UNUSED]


@pytest.mark.parametrize(
    ("more", "fixable"),
    [
        ({"counted_since": NOW - timedelta(days=29, hours=23)}, False),
        ({"counted_since": None}, False),
        ({"standbys": 1}, False),
        ({"is_standby": True}, False),
        ({"counts": False}, True),
    ],
)
def test_what_nobody_can_tell_is_unknown(more: dict[str, Any], fixable: bool) -> None:
    assert judged(catalog(index(2, "i", "1"), **more)) == ({}, [("unused_index", fixable)])
    assert judged(catalog(index(2, "i", "1", scans=1), **more)) == ({}, [])


def test_zero_days_ask_for_no_proof():
    assert list(judged(catalog(index(2, "i", "1"), counted_since=None), after_days=0)[0]) == [UNUSED]
    assert judged(catalog(index(2, "i", "1", **USED)), after_days=0)[0] == {}


def test_the_only_index_of_a_foreign_key_is_needed_without_a_scan():
    key = ForeignKey(9, "fk", 1, 1, ((1, "a"),))
    assert judged(catalog(index(2, "i", "1 2"), key))[0] == {}
    assert list(judged(catalog(index(2, "i", "1 2"), index(3, "j", "1 3", **USED), key))[0]) == [UNUSED]
    assert judged(catalog(index(2, "i", "1 2"), index(3, "j", "3 1", **USED), key))[0] == {}


def test_a_partitioned_index_is_unused_if_all_of_its_parts_are():
    parts = [table(1, "t", kind="p", size_bytes=None), table(10, "t1", parent_oid=1), table(11, "t2", parent_oid=1)]
    whole = index(2, "i", "1", kind="I", size_bytes=None)
    first = index(20, "i1", "1", table_oid=10, parent_oid=2)
    second = index(21, "i2", "1", table_oid=11, parent_oid=2)
    assert judged(catalog(*parts, whole, first, second))[0] == {UNUSED: ('DROP INDEX "public"."i"',)}
    assert judged(catalog(*parts, whole, first, replace(second, scans=1)))[0] == {}
    assert judged(catalog(*parts, whole))[0] == {}


# --- duplicate and redundant ------------------------------------------------------------------------------------------


def test_of_two_equal_ones_the_longer_or_later_name_is_a_duplicate():
    found, _ = judged(catalog(index(2, "i", "1 2", **USED), index(3, "j", "1 2")))
    assert found == {"duplicate_index:public.t.j": ('DROP INDEX CONCURRENTLY "public"."j"',)}
    found, _ = judged(catalog(index(2, "i_copy", "1 2", **USED), index(3, "i_key", "1 2", **USED)))
    assert list(found) == ["duplicate_index:public.t.i_copy"]


def test_ids_depend_on_names_alone():
    """A restore gives everything another OID, and the server no order of its own."""
    columns = ("1", "1", "1 2", "1 3", "1 2 3")
    named = [(f"i{number}", of) for number, of in enumerate(columns)]
    keys = [replace(KEY, name=f"fk{number}", columns=KEY.columns) for number in range(3)]

    def ids(oids: Sequence[int]) -> Any:
        made = [index(oid, one, of, **USED) for oid, (one, of) in zip(oids, named, strict=True)]
        turned = [replace(key, oid=oid) for oid, key in zip(oids, keys, strict=False)]
        order: list[Any] = sorted([*made, *turned], key=lambda one: one.oid)
        return judged(catalog(table(), REFERENCED, *order))[0]

    first = ids(range(100, 105))
    assert first
    assert all(ids(oids) == first for oids in itertools.permutations(range(100, 105)))


@pytest.mark.parametrize(
    "better",
    [
        {"is_unique": True},
        {"is_primary": True, "is_unique": True, "constraint": "pk"},
        {"is_replica_identity": True, "is_unique": True},
        {"is_referenced": True, "is_unique": True},
        {"constraint": "c", "is_unique": True},
    ],
)
def test_what_something_hangs_on_is_kept(better: dict[str, Any]) -> None:
    found, _ = judged(catalog(index(2, "i", "1", **USED), index(3, "j", "1", **USED, **better)))
    assert list(found) == ["duplicate_index:public.t.i"]


def test_a_constraint_is_kept_beside_a_unique_index():
    pair = [index(2, "i", "1", is_unique=True), index(3, "j", "1", is_unique=True, constraint="j")]
    assert list(judged(catalog(*pair))[0]) == ["duplicate_index:public.t.i"]


def test_of_two_constraints_the_second_is_dropped_as_one():
    pair = [index(oid, f"c{oid}", "1", constraint=f"c{oid}", is_unique=True) for oid in (2, 3)]
    assert judged(catalog(*pair))[0] == {
        "duplicate_index:public.t.c3": ('ALTER TABLE "public"."t" DROP CONSTRAINT "c3"',)
    }


@pytest.mark.parametrize(
    "other",
    [
        index(3, "j", "2 1", **USED),
        index(3, "j", "1", access_method="hash", **USED),
        index(3, "j", "1", predicate="(a > 1)", **USED),
        index(3, "j", "1", included=frozenset({"2"}), **USED, is_unique=True),
        index(3, "j", "1", table_oid=99, **USED),
        index(3, "j", "1", is_valid=False, is_building=True, **USED),
        replace(index(3, "j", "1", **USED), keys=(("1", 1, 0, 3),)),
        replace(index(3, "j", "1", **USED), keys=(("1", 1, 950, 0),)),
        replace(index(3, "j", "1", **USED), keys=(("1", 2, 0, 0),)),
    ],
    ids=["order", "method", "predicate", "include", "table", "building", "direction", "collation", "class"],
)
def test_what_differs_is_no_duplicate(other: Index) -> None:
    assert judged(catalog(index(2, "i", "1", is_unique=True), other))[0] == {}


@pytest.mark.parametrize("other", [{"nulls_not_distinct": True}, {"is_deferrable": True, "constraint": "c"}])
def test_what_enforces_something_else_is_another_index(other: dict[str, Any]) -> None:
    pair = [index(2, "i", "1", is_unique=True), index(3, "j", "1", is_unique=True, **other)]
    assert judged(catalog(*pair))[0] == {}


def test_an_exclusion_constraint_is_never_dropped():
    pair = [index(oid, f"c{oid}", "1", access_method="gist", constraint=f"c{oid}") for oid in (2, 3)]
    assert judged(catalog(*pair))[0] == {}


def test_a_partitions_unique_index_is_kept_beside_its_part_of_the_whole():
    parts = [table(1, "t", kind="p"), table(10, "t1", parent_oid=1)]
    part = index(20, "i1", "1", table_oid=10, parent_oid=2, **USED)
    assert judged(catalog(*parts, part, index(19, "own", "1", table_oid=10, is_unique=True)))[0] == {}


def test_dropping_an_expression_costs_its_statistics():
    [found], _, _ = rule.judge(
        catalog(replace(index(2, "i", "1"), keys=(("lower(a)", 1, 0, 0),))),
        quote,
        unused_after_days=30,
        min_size_bytes=1,
    )
    assert found.risk.startswith("The planner loses the statistics")


def test_storage_parameters_make_another_index_of_brin_and_none_of_a_btree():
    made = "CREATE INDEX {} ON public.t USING {} (a)"
    for method, found in (("brin", []), ("btree", ["duplicate_index:public.t.j"])):
        plain = index(2, "i", "1", access_method=method, definition=made.format("i", method), **USED)
        other = index(3, "j", "1", access_method=method, definition=made.format("j", method), **USED)
        assert list(judged(catalog(plain, other))[0]) == ["duplicate_index:public.t.j"]
        fine = replace(other, definition=f"{other.definition} WITH (x=4)")
        assert list(judged(catalog(plain, fine))[0]) == found


def test_two_that_foreign_keys_refer_to_are_both_kept():
    assert judged(catalog(*(index(oid, f"i{oid}", "1", is_unique=True, is_referenced=True) for oid in (2, 3))))[0] == {}


def test_a_partitions_own_index_beside_its_part_of_the_whole():
    parts = [table(1, "t", kind="p"), table(10, "t1", parent_oid=1)]
    whole = index(2, "i", "1", kind="I", size_bytes=None)
    part = index(20, "i1", "1", table_oid=10, parent_oid=2, **USED)
    own = index(19, "own", "1", table_oid=10, **USED)
    assert list(judged(catalog(*parts, whole, part, own))[0]) == ["duplicate_index:public.t1.own"]


def test_an_index_whose_columns_lead_another_one_is_redundant():
    found, _ = judged(catalog(index(2, "i", "1", **USED), index(3, "j", "1 2", **USED)))
    assert found == {"redundant_index:public.t.i": ('DROP INDEX CONCURRENTLY "public"."i"',)}


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (index(2, "i", "2", **USED), index(3, "j", "1 2", **USED)),
        (index(2, "i", "1", is_unique=True), index(3, "j", "1 2", **USED)),
        (index(2, "i", "1", predicate="(a > 1)", **USED), index(3, "j", "1 2", **USED)),
        (index(2, "i", "1", included=frozenset({"5"}), **USED), index(3, "j", "1 2", **USED)),
        (index(2, "i", "1", access_method="gin", **USED), index(3, "j", "1 2", access_method="gin", **USED)),
        (index(2, "i", "1", **USED), index(3, "j", "1 2", is_valid=False, is_building=True)),
    ],
    ids=["not leading", "unique", "predicate", "include", "gin", "building"],
)
def test_what_leads_nothing_is_not_redundant(narrow: Index, wide: Index) -> None:
    assert judged(catalog(narrow, wide))[0] == {}


def test_of_two_only_one_is_to_go():
    """Where the wider one is unused, the narrow one is all that is left."""
    pair = [index(2, "i", "1", **USED), index(3, "j", "1 2")]
    assert list(judged(catalog(*pair))[0]) == ["unused_index:public.t.j"]
    pair = [index(2, "i", "1"), index(3, "j", "1 2", **USED)]
    assert list(judged(catalog(*pair))[0]) == ["unused_index:public.t.i"]


def test_included_columns_may_be_keys_of_the_wider_one():
    pair = [index(2, "i", "1", included=frozenset({"2"}), **USED), index(3, "j", "1 2", **USED)]
    assert list(judged(catalog(*pair))[0]) == ["redundant_index:public.t.i"]


def test_one_defect_is_one_finding():
    """A duplicate that no query uses either, and that leads another one, is a duplicate."""
    every = [index(2, "i", "1", **USED), index(3, "j", "1"), index(4, "k", "1 2", **USED)]
    found, _ = judged(catalog(*every))
    assert list(found) == ["duplicate_index:public.t.j", "redundant_index:public.t.i"]


# --- invalid ----------------------------------------------------------------------------------------------------------


def test_an_invalid_index_is_rebuilt_and_a_leftover_dropped():
    valid = index(2, "i", "1", **USED)
    broken = index(3, "j", "2", is_valid=False)
    left = index(4, "i_ccnew1", "1", is_valid=False)
    alone = index(5, "x_ccnew", "7", is_valid=False)
    assert judged(catalog(valid, broken, left, alone))[0] == {
        "invalid_index:public.t.j": ('REINDEX INDEX CONCURRENTLY "public"."j"',),
        "invalid_index:public.t.i_ccnew1": ('DROP INDEX CONCURRENTLY "public"."i_ccnew1"',),
        "invalid_index:public.t.x_ccnew": ('REINDEX INDEX CONCURRENTLY "public"."x_ccnew"',),
    }


def test_a_partitioned_index_that_still_lacks_parts_is_left_to_its_parts():
    assert judged(catalog(table(kind="p"), index(2, "i", "1", kind="I", is_valid=False)))[0] == {}


# --- foreign keys -----------------------------------------------------------------------------------------------------

REFERENCED = table(5, "users", deleted_rows=3, size_bytes=0)
KEY = ForeignKey(9, "fk", 1, 5, ((1, "a"), (2, "b")))
MISSING = "missing_foreign_key_index:public.t.a.b"


@pytest.mark.parametrize(
    "served",
    [
        index(2, "i", "1 2", **USED),
        index(2, "i", "2 1 3", **USED),
        index(2, "i", "1 2", predicate="(a IS NOT NULL)", **USED),
        index(2, "i", "1 2", predicate='("b" IS NOT NULL)', **USED),
        index(2, "i", "1 2", is_unique=True, constraint="c"),
    ],
)
def test_a_foreign_key_is_served(served: Index) -> None:
    assert judged(catalog(table(), REFERENCED, KEY, served))[0] == {}


@pytest.mark.parametrize(
    "beside",
    [
        [],
        [index(2, "i", "1 3 2", **USED)],
        [index(2, "i", "1", **USED)],
        [index(2, "i", "1 2", predicate="(a > 1)", **USED)],
        [index(2, "i", "1 2", is_valid=False, is_building=True)],
        [index(2, "i", "1 2", access_method="brin", **USED)],
        [index(2, "i", "1 2", table_oid=5, **USED)],
    ],
    ids=["none", "between", "half", "partial", "building", "brin", "other table"],
)
def test_a_foreign_key_lacks_an_index(beside: list[Index]) -> None:
    found, _ = judged(catalog(table(), REFERENCED, KEY, *beside))
    assert found == {MISSING: ('CREATE INDEX CONCURRENTLY "t_a_b_idx" ON "public"."t" ("a", "b")',)}


def test_a_small_table_needs_none_and_deletes_make_it_worse():
    of = catalog(table(size_bytes=8 * MIB), REFERENCED, KEY)
    [proposal] = rule.missing_foreign_key_indexes(Indexes(of), quote, min_size_bytes=8 * MIB)
    assert proposal.finding.severity == "warning"
    assert (proposal.table, proposal.columns) == (name("t"), ("a", "b"))
    quiet = catalog(table(), replace(REFERENCED, deleted_rows=0), KEY)
    assert rule.missing_foreign_key_indexes(Indexes(quiet), quote, min_size_bytes=1)[0].finding.severity == "info"
    assert judged(of, min_size_bytes=8 * MIB + 1)[0] == {}


def test_a_new_name_is_free_and_fits():
    taken: list[Index | Table] = [index(2, "t_a_b_idx", "7", **USED), table(3, "t_a_b_idx1")]
    found, _ = judged(catalog(table(), REFERENCED, KEY, *taken))
    assert found[MISSING][0].startswith('CREATE INDEX CONCURRENTLY "t_a_b_idx2"')
    wide = ForeignKey(9, "fk", 1, 5, ((1, "ä" * 31),))
    found, _ = judged(catalog(table(), REFERENCED, wide))
    made = next(iter(found.values()))[0].split('"')[1]
    assert len(made.encode()) <= 63
    assert made.endswith("_idx")


def test_two_foreign_keys_on_the_same_columns_are_one_finding():
    assert list(judged(catalog(table(), REFERENCED, KEY, replace(KEY, oid=10, name="fk2")))[0]) == [MISSING]


def test_an_index_of_partitions_is_made_part_by_part():
    parts = [
        table(1, "t", kind="p", size_bytes=None),
        table(10, "t1", parent_oid=1),
        table(11, "t2", kind="p", size_bytes=None, parent_oid=1),
        table(12, "t2a", parent_oid=11),
    ]
    key = ForeignKey(9, "fk", 1, 5, ((1, "a"),))
    keys = [key, *(replace(key, oid=oid + 100, table_oid=oid, parent_oid=9) for oid in (10, 11))]
    keys.append(replace(key, oid=200, table_oid=12, parent_oid=111))
    found, _ = judged(catalog(*parts, REFERENCED, *keys))
    assert found == {
        "missing_foreign_key_index:public.t.a": (
            'CREATE INDEX "t_a_idx" ON ONLY "public"."t" ("a")',
            'CREATE INDEX CONCURRENTLY "t1_a_idx" ON "public"."t1" ("a")',
            'ALTER INDEX "public"."t_a_idx" ATTACH PARTITION "public"."t1_a_idx"',
            'CREATE INDEX "t2_a_idx" ON ONLY "public"."t2" ("a")',
            'CREATE INDEX CONCURRENTLY "t2a_a_idx" ON "public"."t2a" ("a")',
            'ALTER INDEX "public"."t2_a_idx" ATTACH PARTITION "public"."t2a_a_idx"',
            'ALTER INDEX "public"."t_a_idx" ATTACH PARTITION "public"."t2_a_idx"',
        )
    }


@pytest.mark.parametrize(("after", "severity"), [(90.0, "warning"), (90.1, "info"), (100.0, "info"), (8.0, "warning")])
def test_what_the_planner_would_not_use_is_less_severe(after: float, severity: str) -> None:
    [proposal] = rule.missing_foreign_key_indexes(Indexes(catalog(table(), REFERENCED, KEY)), quote, min_size_bytes=1)
    found = rule.weighed(proposal.finding, Estimate(100.0, after))
    assert found.severity == severity
    assert found.estimated == Estimate(100.0, after)
    assert ("would not use" in found.msg) is (severity == "info")
    assert found.msg.endswith(".")
    assert rule.weighed(proposal.finding, None) == proposal.finding


# --- sequential scans and locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scans", "rows", "size_bytes", "days", "found"),
    [
        (2160, 216_000_000, 8 * MIB, 90, True),
        (2159, 216_000_000, 8 * MIB, 90, False),
        (2160, 215_999_999, 8 * MIB, 90, False),
        (2160, 216_000_000, 8 * MIB - 1, 90, False),
        (24, 2_400_000, 8 * MIB, 0, True),
        (23, 2_300_000, 8 * MIB, 0, False),
        (0, 0, 8 * MIB, 90, False),
    ],
)
def test_a_big_table_that_is_read_all_the_time(scans: int, rows: int, size_bytes: int, days: int, found: bool) -> None:
    read = table(sequential_scans=scans, sequential_rows=rows, size_bytes=size_bytes)
    of = catalog(read, counted_since=NOW - timedelta(days=days))
    assert list(judged(of)[0]) == (["sequential_scans:public.t"] if found else [])


def test_locked_tables_are_unknown():
    assert judged(catalog(locked=["public.a"])) == ({}, [("locked_tables", True)])


def test_an_empty_database_is_sound():
    of = Catalog({}, [index(2, "i", "1")], [KEY], NOW, None, counts=True, is_standby=False, standbys=0)
    assert judged(of) == ({}, [])


def test_what_a_managed_platform_made_is_no_finding() -> None:
    """Nobody else can alter it: duplicates, idle and broken indexes, keys without one, tables read from end to end."""
    theirs = table(owner="supabase_auth_admin", sequential_scans=1_000_000, sequential_rows=1 << 40)
    everything: list[Index | ForeignKey] = [
        index(10, "a", "x"), index(11, "b", "x"), index(12, "c", "y"), index(13, "d", "z", is_valid=False),
        ForeignKey(20, "fk", 1, 2, ((1, "w"),), None),
    ]  # fmt: skip
    assert judged(catalog(replace(theirs, owner="app"), *everything))[0]
    assert judged(catalog(theirs, *everything)) == ({}, [])
