"""Rules of bloat: what rows need, what is unknown, what is added up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import bloat as rule
from ansible.module_utils.runbook.rules.postgres.bloat import Bloat, BtreePages, Column, HeapPages, Relation

PAGE = 8192
INT = Column(None, None, 4, 4, not_null=True)
BIGINT = Column(None, None, 8, 8, not_null=True)


def text(width: float, nulls: float = 0.0) -> Column:
    return Column(width, nulls, -1, 4)


def relation(name: str = "t", **changes: Any) -> Relation:
    whole = QualifiedName("public", name)
    made = Relation(
        oid=1,
        name=whole,
        kind="r",
        access_method="heap",
        size_bytes=100 * PAGE,
        planner_rows=1000,
        live_rows=1000,
        dead_rows=0,
        counted=True,
        fillfactor=None,
        columns=(BIGINT,),
        table_oid=1,
        table=whole,
    )
    return replace(made, **changes)


def index(**changes: Any) -> Relation:
    return relation("i", **({"kind": "i", "access_method": "btree", "oid": 2} | changes))


# (24 + 8) + 4 bytes a row: 226 rows fit into the 8,168 bytes of a page.
@pytest.mark.parametrize(("rows", "pages"), [(0, 0), (1, 1), (226, 1), (227, 2), (226 * 10, 10)])
def test_rows_of_one_length_need_whole_pages(rows: int, pages: int) -> None:
    assert rule.estimate(relation(live_rows=rows)).expected_bytes == pages * PAGE


def test_a_column_is_padded_to_its_alignment() -> None:
    assert rule.row_bytes([INT, BIGINT]) == (40.0, True)
    assert rule.row_bytes([BIGINT, INT]) == (40.0, True)
    assert rule.row_bytes([INT, INT]) == (32.0, True)


def test_nulls_cost_a_bitmap_that_may_need_no_room() -> None:
    # 23 bytes and one of bitmap are 24: eight columns are free, nine are not.
    null = Column(0, 1.0, -1, 4)
    assert rule.row_bytes([BIGINT, *[null] * 7]) == (32.0, True)
    assert rule.row_bytes([BIGINT, *[null] * 8]) == (40.0, True)


def test_the_fill_factor_is_no_bloat() -> None:
    full, half = rule.estimate(relation(live_rows=22_600)), rule.estimate(relation(live_rows=22_600, fillfactor=50))
    # 113 rows a page instead of 226.
    assert (full.expected_bytes, half.expected_bytes) == (100 * PAGE, 200 * PAGE)


def test_bloat_is_never_negative() -> None:
    answer = rule.estimate(relation(size_bytes=PAGE))
    assert (answer.bloat_bytes, answer.bloat_percent) == (0, 0.0)


def test_the_running_count_goes_before_the_planners_until_a_crash() -> None:
    assert rule.rows_of(relation(live_rows=5, planner_rows=9)) == 5
    assert rule.rows_of(relation(live_rows=5, planner_rows=9, counted=False)) == 9
    assert rule.rows_of(relation(live_rows=5, planner_rows=-1, counted=False)) == 5
    assert rule.rows_of(relation(live_rows=0, planner_rows=-1, counted=False)) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size_bytes": None}, "locked"),
        ({"counted": False, "planner_rows": -1, "live_rows": 0}, "never vacuumed"),
        ({"columns": (BIGINT, Column(None, None, -1, 4))}, "no statistics"),
        ({"columns": (Column(None, None, 8, 8),)}, "no statistics"),
    ],
)
def test_what_cannot_be_told_is_unknown_and_not_nothing(changes: dict[str, Any], says: str) -> None:
    answer = rule.estimate(relation(**changes))
    assert answer.bloat_bytes is None
    assert answer.bloat_percent is None
    assert answer.method == "none"
    assert says in str(answer.reason)
    assert rule.totals([answer], min_size_bytes=1)["status"] == "unknown"
    assert rule.totals([answer], min_size_bytes=1)["bloat_bytes"] is None


def test_an_index_of_another_type_is_unknown_for_good_and_no_reproach() -> None:
    answer = rule.estimate(index(access_method="gin"))
    assert answer.bloat_bytes is None
    assert rule.totals([answer], min_size_bytes=1)["status"] == "ok"
    assert rule.totals([answer], min_size_bytes=1)["unknown_bytes"] == 100 * PAGE


def test_a_small_unknown_relation_is_no_reproach() -> None:
    answer = rule.estimate(relation(columns=(Column(None, None, -1, 4),)))
    assert rule.totals([answer], min_size_bytes=101 * PAGE)["status"] == "ok"


def test_toast_holds_at_most_four_chunks_a_page() -> None:
    answer = rule.estimate(relation(kind="t", live_rows=9))
    assert (answer.method, answer.expected_bytes) == ("at_least", 3 * PAGE)


# 8 + 8 bytes an entry and its item pointer: (8192 - 24 - 16) - 819.2 - 20 of the high key leave room for 365.
@pytest.mark.parametrize(("rows", "pages"), [(1, 2), (365, 2), (366, 4)])
def test_an_index_has_leaves_a_root_and_a_page_of_its_own(rows: int, pages: int) -> None:
    assert rule.estimate(index(live_rows=rows)).expected_bytes == pages * PAGE


def test_equal_keys_share_an_entry_where_the_index_merges_them() -> None:
    repeated = replace(INT, distinct=100)
    plain = rule.estimate(index(live_rows=1_000_000, columns=(repeated,)))
    merged = rule.estimate(index(live_rows=1_000_000, columns=(repeated,), deduplicates=True))
    assert plain.expected_bytes is not None
    assert merged.expected_bytes is not None
    assert merged.expected_bytes < 0.35 * plain.expected_bytes


def test_two_columns_repeat_less_than_each_of_them() -> None:
    one, share = replace(INT, distinct=100), replace(INT, distinct=-0.5)
    alone = rule.estimate(index(live_rows=100_000, columns=(one,), deduplicates=True))
    both = rule.estimate(index(live_rows=100_000, columns=(one, one), deduplicates=True))
    unique = rule.estimate(index(live_rows=100_000, columns=(one, share), deduplicates=True))
    sizes = [answer.expected_bytes or 0 for answer in (alone, both, unique)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_without_a_count_of_keys_each_row_has_its_own() -> None:
    assert (
        rule.estimate(index(columns=(INT,), deduplicates=True)).expected_bytes
        == rule.estimate(index(columns=(INT,))).expected_bytes
    )


def test_nulls_are_one_key() -> None:
    half = Column(4, 0.5, 4, 4, distinct=-0.5)
    none = Column(4, 0.0, 4, 4, distinct=-1)
    some = rule.estimate(index(live_rows=100_000, columns=(half,), deduplicates=True)).expected_bytes or 0
    all_different = rule.estimate(index(live_rows=100_000, columns=(none,), deduplicates=True)).expected_bytes or 0
    assert some < 0.75 * all_different


def test_measured_leaves_are_brought_to_the_fill_factor() -> None:
    answer = rule.measured(index(), BtreePages(100 * PAGE, leaf_pages=90, inner_pages=9, leaf_density_percent=44.78))
    # 90 leaves of 44.78 % are 45 of 89.95 %, and half of the inner pages go too.
    assert answer.method == "measured"
    assert answer.expected_bytes == (1 + 45 + 5) * PAGE


def test_entries_of_dead_rows_are_bloat() -> None:
    pages = BtreePages(100 * PAGE, leaf_pages=99, inner_pages=0, leaf_density_percent=90)
    clean = rule.measured(index(), pages).bloat_bytes
    dirty = rule.measured(index(dead_rows=1000), pages).bloat_bytes
    assert clean is not None
    assert dirty is not None
    assert clean < 3 * PAGE
    assert dirty > 45 * PAGE


def test_an_empty_index_needs_its_own_page_only() -> None:
    answer = rule.measured(index(), BtreePages(50 * PAGE, leaf_pages=0, inner_pages=0, leaf_density_percent=None))
    assert answer.expected_bytes == PAGE


def test_measured_rows_of_a_table() -> None:
    empty = rule.measured(relation(), HeapPages(100 * PAGE, 0, 0))
    assert (empty.expected_bytes, empty.bloat_percent) == (0, 100.0)
    full = rule.measured(relation(), HeapPages(10 * PAGE, 2260, 10 * PAGE))
    assert (full.expected_bytes, full.size_bytes) == (10 * PAGE, 10 * PAGE)


def test_the_worst_come_first_and_the_unknown_by_their_size() -> None:
    bloats = [
        Bloat(relation("small"), "estimated", 90 * PAGE),
        Bloat(relation("worst"), "estimated", 0),
        Bloat(relation("unknown", size_bytes=99 * PAGE), "none", None, "?"),
        Bloat(relation("tiny", size_bytes=PAGE), "estimated", 0),
    ]
    chosen = rule.worth_measuring(bloats, min_size_bytes=2 * PAGE, top=2)
    assert [bloat.relation.name.name for bloat in chosen] == ["worst", "unknown"]


def test_only_what_can_be_measured_is_chosen() -> None:
    bloats = [rule.estimate(index(access_method="gin")), rule.estimate(index())]
    assert rule.worth_measuring(bloats, min_size_bytes=0, top=5) == [bloats[1]]


def test_partitions_are_rolled_up_into_the_topmost_parent() -> None:
    parents = {10: (QualifiedName("public", "top"), None), 11: (QualifiedName("public", "middle"), 10)}
    bloats = [
        Bloat(relation("a", table_oid=1, parent_oid=11), "estimated", 40 * PAGE),
        Bloat(relation("b", table_oid=2, parent_oid=10), "none", None, "?"),
        Bloat(index(table_oid=2, parent_oid=10), "estimated", 60 * PAGE),
        Bloat(relation("c", table_oid=3), "estimated", 100 * PAGE),
    ]
    top, other = rule.by_table(bloats, parents)
    assert (top["table"], top["partitions"], top["total_bytes"]) == ("public.top", 2, 300 * PAGE)
    assert (top["bloat_bytes"], top["unknown_bytes"], top["indexes_bytes"]) == (100 * PAGE, 100 * PAGE, 100 * PAGE)
    assert (other["table"], other["partitions"], other["bloat_bytes"]) == ("public.c", 0, 0)


def test_a_sum_says_what_it_leaves_out() -> None:
    bloats = [
        Bloat(relation("a"), "estimated", 50 * PAGE),
        Bloat(relation("b"), "none", None, "never vacuumed nor analysed", "analyze"),
    ]
    result = rule.totals(bloats, min_size_bytes=1)
    assert (result["bloat_bytes"], result["bloat_percent"], result["unknown_bytes"]) == (50 * PAGE, 50.0, 100 * PAGE)
    said = rule.message(result, relations=2, unknown=rule.unknown_because(bloats, measuring="GRANT it"))
    assert said.endswith("unknown for 800 KiB; unknown of public.b, because they have no statistics; ANALYZE them.")
