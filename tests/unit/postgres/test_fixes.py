"""Which findings a run applies, and what it does about each."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import fixes
from ansible.module_utils.runbook.rules.postgres.indexes import Table
from ansible.module_utils.runbook.rules.postgres.reindex import Index, Priority

CREATE = 'CREATE INDEX CONCURRENTLY "t_a_idx" ON "public"."t" ("a")'
DROP = 'DROP INDEX CONCURRENTLY "public"."t_b_idx"'
TABLE = Table(
    oid=7, name=QualifiedName("public", "t"), kind="r", owner="app", size_bytes=8_192_000, live_rows=1000
)  # fmt: skip


def index(name: str, **of: Any) -> Index:
    values: dict[str, Any] = {
        "oid": 1, "name": QualifiedName("public", name), "table_oid": 7, "table": TABLE.name, "access_method": "btree",
        "size_bytes": 8192, "table_bytes": 8192, "is_valid": True, "is_unique": False, "is_exclusion": False,
        "is_catalog": False, "is_leftover": False, "outdated_collations": (), "permitted": True, "bloat": None,
    }  # fmt: skip
    return Index(**(values | of))


def finding(kind: str, name: str, *ddl: str, about: str | None = None, **evidence: Any) -> Finding:
    return Finding(
        finding_id(kind, "public", "t", name),
        kind,
        "info",
        about or f"public.{name}",
        evidence,
        "It is so.",
        ddl,
        "A risk.",
    )


def work(wanted: str, *found: Finding, unknown: tuple[Unknown, ...] = (), indexes: tuple[str, ...] = ()) -> Any:
    return fixes.work(wanted, found, unknown, indexes=[index(name) for name in indexes], tables=[TABLE])


@pytest.mark.parametrize(
    ("ddl", "fix"),
    [
        ([CREATE], "create"),
        ([DROP], "drop"),
        (['REINDEX INDEX CONCURRENTLY "public"."t_b_idx"'], "rebuild"),
        ([], None),
        ([CREATE, DROP], None),
        (['DROP INDEX "public"."t_b_idx"'], None),
        (['ALTER TABLE "public"."t" DROP CONSTRAINT "x"'], None),
        (['VACUUM (FULL, ANALYZE) "public"."t"'], None),
        (['CREATE UNIQUE INDEX CONCURRENTLY "x" ON "public"."t" ("a")'], None),
    ],
)
def test_only_one_concurrent_statement_is_applied(ddl, fix):
    assert fixes.of_statements(ddl) == fix


def test_a_statement_that_creates_nothing_has_no_name():
    with pytest.raises(RunbookError):
        fixes.created_name(DROP)


def test_an_index_is_created():
    wanted = finding("missing_foreign_key_index", "a", CREATE, about="public.t")
    found, made = work(wanted.id, wanted)
    assert found is wanted
    assert (made.action, made.ddl, made.index.name, made.index.table_oid) == (
        "create",
        CREATE,
        QualifiedName("public", "t_a_idx"),
        7,
    )
    assert made.index.size_bytes == 1000 * fixes.ENTRY_BYTES
    assert made.space_bytes == 2 * made.index.size_bytes
    assert not made.checks


def test_what_an_earlier_attempt_left_is_built_to_its_end():
    wanted = finding("missing_foreign_key_index", "a", CREATE.replace("t_a_idx", "t_a_idx1"), about="public.t")
    left = finding("invalid_index", "t_a_idx", "REINDEX …", table="public.t")
    _, made = work(wanted.id, wanted, left, indexes=("t_a_idx",))
    assert (made.action, made.index.name.name, made.priority) == ("rebuild", "t_a_idx", Priority.INVALID)
    elsewhere = finding("invalid_index", "t_a_idx", "REINDEX …", table="public.other")
    _, made = work(wanted.id, wanted, elsewhere, indexes=("t_a_idx",))
    assert made.action == "create"


def test_an_index_is_dropped_and_a_drop_is_finished():
    unused = finding("unused_index", "t_b_idx", DROP)
    assert work(unused.id, unused, indexes=("t_b_idx",))[1].action == "drop"
    half = finding("invalid_index", "t_b_idx", 'REINDEX INDEX CONCURRENTLY "public"."t_b_idx"')
    assert work(unused.id, half, indexes=("t_b_idx",))[1].action == "drop"
    assert work(half.id, half, indexes=("t_b_idx",))[1].action == "rebuild"
    # Of another kind, an invalid index is no half of a drop.
    assert work("bloated_index:public.t.t_b_idx", half, indexes=("t_b_idx",)) is None


def test_a_bloated_index_is_checked_before_it_is_rebuilt():
    bloated = finding("bloated_index", "t_b_idx", 'REINDEX INDEX CONCURRENTLY "public"."t_b_idx"')
    assert work(bloated.id, bloated, indexes=("t_b_idx",))[1].checks


def test_what_went_meanwhile_is_nothing_to_do():
    unused = finding("unused_index", "t_b_idx", DROP)
    assert work(unused.id, unused, indexes=()) is None
    assert work(unused.id) is None


def test_what_nobody_can_tell_is_unknown():
    with pytest.raises(RunbookError) as error:
        work("unused_index:public.t.t_b_idx", unknown=(Unknown("unused_index", "The counters are young."),))
    assert error.value.context["status"] == "unknown"
    assert "The counters are young." in error.value.message


def test_what_locks_people_out_is_refused_with_its_risk():
    twin = finding("duplicate_index", "t_key", 'ALTER TABLE "public"."t" DROP CONSTRAINT "t_key"')
    with pytest.raises(RunbookError) as error:
        work(twin.id, twin, indexes=("t_key",))
    assert error.value.message.endswith("A risk.")
    assert error.value.context["finding"] == twin.result()


def test_a_doubt_is_about_an_index_that_is_there():
    young, locked = Unknown("unused_index", "Young."), Unknown("locked_tables", "Locked.")
    there = [("public", "t", "t_b_idx")]
    asked = "unused_index:public.t.t_b_idx"
    assert fixes.doubts(asked, [young], there) == [young]
    assert fixes.doubts(asked, [young], []) == []
    assert fixes.doubts("duplicate_index:public.t.t_b_idx", [young], there) == []
    assert fixes.doubts(asked, [locked], []) == [locked]


def test_the_nearest_id_is_one_that_may_be_applied():
    unused, table = finding("unused_index", "t_b_idx", DROP), finding("unused_table", "t_b_idx")
    assert fixes.nearest("unused_index:public.t.t_b_idy", [unused, table]) == unused.id
    assert fixes.nearest("unused_table:public.t.t_b_idx", [table]) is None
    assert fixes.nearest("invalid_index:x", [unused]) is None


@pytest.mark.parametrize("wanted", ["", "x", ":x", "unused_index:", "unused_index"])
def test_what_is_no_id_is_refused(wanted):
    with pytest.raises(RunbookError, match="is no id of a finding"):
        fixes.require_kind(wanted)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("not_standing", "Not applied: f does not stand (any more). It was fixed meanwhile, or"),
        ("planned", "Would apply f: S."),
        ("done", "Applied f in 1.5 s: S."),
        ("locked", "f stayed locked (who); run it again when the cause is gone."),
        ("not_reached", "f was not done before the deadline (who); run it again when the cause is gone."),
        ("failed", "f failed (who); run it again when the cause is gone."),
    ],
)
def test_one_sentence_for_each_end(state, says):
    result = {"id": "f", "state": state, "nearest": "g", "error": "who", "statement": "S", "duration_s": 1.5}
    assert fixes.message(result).startswith(says)
    assert ("The nearest that stands is g." in fixes.message(result)) == (state == "not_standing")
