"""Rules of rebuilding indexes: which, in which order, when not, and what is said."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest
from ansible.module_utils.runbook.drivers.postgres.reindex import Rebuild
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import reindex as rule
from ansible.module_utils.runbook.rules.postgres.bloat import Bloat, Relation
from ansible.module_utils.runbook.rules.postgres.reindex import Index, Report, Summary, Work

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20


def index(name: str = "i", *, bloat_percent: float | None = 0.0, **changes: Any) -> Index:
    size = int(changes.get("size_bytes", 100 * MIB))
    full = QualifiedName("public", name)
    relation = Relation(1, full, "i", "btree", size, 1, 1, 0, counted=True, fillfactor=None)
    expected = None if bloat_percent is None else round(size * (1 - bloat_percent / 100))
    made = Index(
        oid=hash(name) % 100_000,
        name=full,
        table_oid=7,
        table=QualifiedName("public", "t"),
        access_method="btree",
        size_bytes=size,
        table_bytes=200 * MIB,
        is_valid=True,
        is_unique=False,
        is_exclusion=False,
        is_catalog=False,
        is_leftover=False,
        outdated_collations=(),
        permitted=True,
        bloat=Bloat(relation, "measured", expected),
    )
    return replace(made, **changes)


def plan(*indexes: Index, mode: Any = "needed") -> list[Work]:
    return rule.plan(indexes, mode=mode, min_bloat_percent=40, min_size_bytes=8 * MIB)


@pytest.mark.parametrize(
    ("percent", "size", "due"),
    [(39.9, 100 * MIB, False), (40.0, 100 * MIB, True), (40.0, 8 * MIB, True), (90.0, 8 * MIB - 1, False)],
)
def test_bloat_counts_from_its_limit_and_its_size(percent: float, size: int, due: bool) -> None:
    assert bool(plan(index(bloat_percent=percent, size_bytes=size))) is due


def test_unknown_bloat_is_no_reason() -> None:
    assert plan(index(bloat_percent=None)) == []
    assert plan(index(bloat=None)) == []


def test_repairs_come_first_and_then_the_smallest() -> None:
    works = plan(
        index("big", bloat_percent=50, size_bytes=90 * MIB),
        index("small", bloat_percent=50, size_bytes=9 * MIB),
        index("sorted", outdated_collations=("de",), size_bytes=500 * MIB),
        index("broken", is_valid=False, size_bytes=900 * MIB),
        index("broken_ccnew", is_valid=False, is_leftover=True),
    )
    assert [work.index.name.name for work in works] == ["broken_ccnew", "broken", "sorted", "small", "big"]
    assert [work.action for work in works] == ["drop", "rebuild", "rebuild", "rebuild", "rebuild"]


def test_all_means_what_reindex_database_concurrently_takes() -> None:
    works = plan(index("mine"), index("catalog", is_catalog=True), index("exclusion", is_exclusion=True), mode="all")
    assert [(work.index.name.name, work.reason) for work in works] == [("mine", "mode all")]


def test_only_a_sound_tree_is_checked_before() -> None:
    checked = {
        work.index.name.name: work.checks
        for work in plan(
            index("bloated", bloat_percent=50),
            index("gin", bloat_percent=50, access_method="gin"),
            index("sorted", outdated_collations=("de",)),
            index("broken", is_valid=False),
            index("left", is_valid=False, is_leftover=True),
        )
    }
    assert checked == {"bloated": True, "gin": False, "sorted": False, "broken": False, "left": False}


def test_what_cannot_be_done_concurrently_is_said() -> None:
    def state(**changes: Any) -> str:
        (work,) = plan(index(bloat_percent=50, **changes))
        return rule.first_state(work, jobs=1, free_bytes=1 << 40, database_bytes=0)[0]

    assert state() == "planned"
    assert state(is_exclusion=True) == "not_concurrent"
    assert state(is_catalog=True) == "not_concurrent"
    assert state(permitted=False) == "not_permitted"


@pytest.mark.parametrize(
    ("free", "database", "jobs", "state"),
    [
        # 100 MiB of which half is bloat: two times 50 MiB for each job.
        (100 * MIB, 0, 1, "planned"),
        (100 * MIB - 1, 0, 1, "no_space"),
        (100 * MIB, 0, 2, "no_space"),
        (None, 0, 10, "planned"),
        (None, 0, 11, "no_space"),
        (None, 11_000 * MIB, 11, "planned"),
        (None, None, 11, "no_space"),
    ],
)
def test_disk_space(free: int | None, database: int | None, jobs: int, state: str) -> None:
    (work,) = plan(index(bloat_percent=50))
    found, why = rule.first_state(work, jobs=jobs, free_bytes=free, database_bytes=database)
    assert found == state
    if state == "no_space" and free is None:
        assert "free_disk_bytes" in str(why)


def test_dropping_needs_no_disk() -> None:
    (work,) = plan(index(is_leftover=True, is_valid=False))
    assert rule.first_state(work, jobs=9, free_bytes=0, database_bytes=0)[0] == "planned"


def test_what_would_outlast_the_deadline_is_not_begun() -> None:
    (work,) = plan(index(bloat_percent=50))
    assert work.weight_bytes == 400 * MIB + 1
    assert rule.fits(work, left_s=20.1, rate_bytes_s=None)
    assert not rule.fits(work, left_s=20, rate_bytes_s=None)
    assert rule.fits(work, left_s=5, rate_bytes_s=100 * MIB)
    (drop,) = plan(index(is_leftover=True, is_valid=False))
    assert rule.fits(drop, left_s=0.1, rate_bytes_s=None)
    assert not rule.fits(drop, left_s=0, rate_bytes_s=None)


def test_a_collation_is_confirmed_when_its_last_index_is_done() -> None:
    works = plan(index("a", outdated_collations=("de", "fr")), index("b", outdated_collations=("de",)))
    reports = [Report(work, "done") for work in works]
    assert rule.refreshable(reports) == ["de", "fr"]
    reports[1].state = "locked"
    assert rule.refreshable(reports) == ["fr"]
    assert rule.refreshable([]) == []


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("done", "ok"),
        ("gone", "ok"),
        ("not_permitted", "ok"),
        ("not_concurrent", "ok"),
        ("locked", "breach"),
        ("corrupt", "breach"),
        ("no_space", "breach"),
        ("failed", "breach"),
        ("not_reached", "breach"),
    ],
)
def test_what_is_left_undone_is_no_success(state: Any, status: str) -> None:
    (work,) = plan(index(bloat_percent=50))
    summary = Summary([Report(work, state)], 5, check_mode=False)
    assert summary.result()["status"] == status
    assert summary.result()["changed"] is (state == "done")


def test_a_repair_that_somebody_else_must_make_is_no_success() -> None:
    (work,) = plan(index(is_valid=False))
    assert Summary([Report(work, "not_permitted")], 5, check_mode=False).result()["status"] == "breach"


def test_one_sentence_tells_the_figures() -> None:
    works = plan(index("a", bloat_percent=50), index("b", is_valid=False), index("c", is_valid=False, is_leftover=True))
    dropped, broken, done = (Report(work, "done") for work in works)
    broken.state, broken.error = "locked", "held by session 5, idle in transaction for 9 s"
    done.size_after_bytes = 50 * MIB
    summary = Summary([dropped, broken, done], 9, check_mode=False)
    result = summary.result() | {"duration_s": 2.0}
    assert summary.message(result) == (
        "Rebuilt 1 of 9 indexes in 2.0 s; 100 MiB are now 50.0 MiB; dropped 1 left behind by interrupted runs; "
        "1 index stayed locked: public.b (held by session 5, idle in transaction for 9 s)."
    )
    assert (result["rebuilt_indexes"], result["dropped_indexes"]) == (1, 1)
    checked = Summary([Report(work, "planned") for work in works], 9, check_mode=True)
    assert checked.message(checked.result()) == "Would rebuild 2 of 9 indexes (200 MiB) and drop 1 left behind."
    assert Summary([], 9, check_mode=True).message({}).startswith("Nothing to do: none of 9 indexes")


class CancelledSession:
    """A session whose first question about an index is cancelled."""

    def __init__(self, before: Callable[[], None]) -> None:
        self.connection = SimpleNamespace(closed=0)
        self.executed_queries: list[str] = []
        self._before = before

    def query(self, statement: Any, _values: Any = None) -> list[dict[str, Any]]:
        if "pg_backend_pid" in str(statement):
            return [{"pid": 1}]
        self._before()
        raise psycopg2.errors.QueryCanceled

    def close(self) -> None:
        self.connection.closed = 1


@pytest.mark.parametrize(("ends", "state"), [(True, "not_reached"), (False, "failed")])
def test_a_question_that_the_end_of_a_pass_cancels_is_no_failed_index(ends: bool, state: str) -> None:
    """The end cancels whatever runs, what is asked before the statement too."""
    report = Report(plan(index(bloat_percent=90.0))[0], "planned")
    session: Any = CancelledSession(lambda: rebuild._stop.set() if ends else None)
    rebuild = Rebuild(
        [report],
        connect=lambda: session,
        fits=lambda _work, _left_s, _rate: True,
        jobs=1,
        lock_timeout_ms=1000,
        deadline_s=60,
        check_schema=None,
    )
    rebuild.run(lambda: None)
    assert report.state == state
