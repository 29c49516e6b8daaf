"""Errors after a change compared with before, at the borders; and how often chance alone is called a finding."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import exp, lgamma, log
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.change import error_logs as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import error_logs as rules
from ansible.module_utils.runbook.rules.change.change import Change, Item
from ansible.module_utils.runbook.rules.change.error_logs import Count, Lines, Rule, Span
from ansible.module_utils.runbook.rules.change.vector import Vector
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 29, 3, 10, 20, tzinfo=UTC)
RULE = Rule(2.0, 5, 300)
CHANGE = Change("1", "weekly_db.yml", "a test", (), "", NOW - timedelta(hours=1), NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("earlier", "now", "status"),
    [
        # Twice 10 in 5 minutes, and two deviations: 20 + 8.9.
        (Count(60, 1800), Count(28, 300), "ok"),
        (Count(60, 1800), Count(29, 300), "breach"),
        # None before: a handful is a finding.
        (Count(0, 1800), Count(4, 300), "ok"),
        (Count(0, 1800), Count(5, 300), "breach"),
        # The span is too short by a second, whatever was found.
        (Count(60, 1800), Count(0, 299), "unknown"),
        (Count(60, 1800), Count(900, 299), "unknown"),
        # Nobody counted before.
        (None, Count(0, 300), "ok"),
        (None, Count(1, 300), "unknown"),
        # Nothing is logged any more; a log of errors only may be silent.
        (Count(3, 1800, 900), Count(0, 300, 0), "unknown"),
        (None, Count(0, 300, 0), "unknown"),
        (Count(3, 1800, 3), Count(0, 300, 0), "ok"),
        (Count(0, 1800, 0), Count(0, 300, 0), "ok"),
        (Count(3, 1800, 900), Count(0, 300, 1), "ok"),
    ],
)
def test_errors_are_compared_by_the_minute(earlier, now, status):
    assert RULE.judge(earlier, now).status == status


def test_the_sentence_says_both_rates():
    said = RULE.judge(Count(60, 1800), Count(29, 300)).msg
    assert said.startswith(
        "29 errors in 5 min (5.8 a minute) after the work, 60 errors in 30 min (2 a minute) before it;"
    )
    assert "more than 28 are no chance any more" in said


@pytest.mark.parametrize("span_s", [300, 600, 1800])
def test_chance_alone_is_seldom_a_finding(span_s):
    """The rate is the same before and after, and each count a Poisson variable of it."""

    def share(mean: float, number: int) -> float:
        return exp(-mean + number * log(mean) - lgamma(number + 1))

    def found(mean: float) -> float:
        total = 0.0
        later = mean * span_s / 1800
        for number in range(int(mean + 8 * mean**0.5 + 20)):
            limit = RULE.limit(Count(number, 1800), span_s)
            total += share(mean, number) * (1 - sum(share(later, each) for each in range(limit + 1)))
        return total

    assert max(map(found, [each / 4 for each in range(1, 200)])) < 0.05


@pytest.mark.parametrize("counted", [Count(0, 60), Count(12, 1800, 340)])
def test_the_change_keeps_the_count(counted):
    noted = CHANGE.with_item("error_logs_before", Item(Status.OK, "", "", counted.proof))
    assert rules.before(noted, "error_logs") == counted


def test_what_nobody_could_count_is_no_count():
    assert rules.before(None, "error_logs") is None
    assert rules.before(CHANGE, "error_logs") is None
    assert rules.before(CHANGE.with_item("error_logs_before", Item(Status.UNKNOWN, "", "")), "error_logs") is None


def test_the_work_ends_when_its_item_says_so():
    assert rules.work_ended(CHANGE) == CHANGE.opened_at
    done = CHANGE.with_item("work", Item(Status.OK, "", "2026-11-29T04:05:00+01:00"))
    assert rules.work_ended(done) == datetime(2026, 11, 29, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_ratio": 0.9}, "max_ratio: 0.9 would call fewer errors more"),
        ({"max_ratio": float("nan")}, "max_ratio: nan"),
        ({"backend": "prometheus", "prometheus_url": "http://a", "prometheus_query": "up"}, "it has no $__range"),
        ({"backend": "loki", "loki_url": "http://a", "loki_query": "a"}, "loki_lines_query: it is not set"),
        ({"loki_tenant": "a"}, "loki_tenant: it is set, and backend none has no use for it"),
    ],
)
def test_bad_options_are_named(given, says):
    options = dict.fromkeys({name for needs in rules.BACKENDS.values() for name in needs.all})
    params = options | {"backend": "none", "max_ratio": 2.0, "min_errors": 5, "min_span_s": 300} | given
    with pytest.raises(RunbookError) as refused:
        rules.check(params)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-11-29 03:10:20.123 UTC [7] ERROR:  deadlock detected", NOW + timedelta(milliseconds=123)),
        ("[2026-11-29T04:10:20+0100] production.ERROR: x", NOW),
        ("2026-11-29T03:10:20,5Z ERROR", NOW + timedelta(milliseconds=500)),
        ('{"level":50,"time":1795921820123,"pid":7}', datetime.fromtimestamp(1795921820, UTC)),
        ("    at Object.<anonymous> (/srv/app.js:7:1)", None),
        ("2026-13-29 03:10:20Z", None),
    ],
)
def test_the_time_of_a_line_is_read(line, at):
    assert Lines.time_of(line) == at


def test_a_line_without_a_zone_is_of_this_machine():
    local = NOW.astimezone().replace(tzinfo=None)
    assert Lines.time_of(f"{local:%Y/%m/%d %H:%M:%S} [error] 7#7: x") == NOW


@pytest.mark.parametrize(("values", "empty", "errors"), [([2.6, 1.0], None, 4), ([], 0, 0)])
def test_values_of_a_query_are_added_up(values, empty, errors):
    assert Vector("vector", tuple(values)).total(empty=empty) == errors


@pytest.mark.parametrize(
    "vector",
    [Vector("vector", ()), Vector("vector", (float("nan"),)), Vector("vector", (float("inf"),)),
     Vector("vector", (-1.0,)), Vector("vector", (1.0,), ("partial",))],
)  # fmt: skip
def test_no_value_is_no_zero(vector):
    with pytest.raises(RunbookError) as refused:
        vector.total()
    assert refused.value.status is Status.UNKNOWN


def test_what_has_no_value_at_a_moment_is_none():
    streams = Vector.of({"data": {"resultType": "streams", "result": [{"values": []}]}})
    with pytest.raises(RunbookError, match="gave no value"):
        streams.total(empty=0)


@pytest.mark.parametrize("rows", [[], [{"errors": 1}], [{"errors": "a", "lines": 2}], [1], None])
def test_another_row_than_the_two_numbers_is_refused(rows):
    with pytest.raises(RunbookError, match="one row with the numbers errors and lines"):
        Count.of_row(rows, Span(NOW, NOW))


def test_supabase_is_asked_for_whole_minutes():
    until = NOW.replace(second=0)

    def asked(since: datetime) -> Span:
        return Span(since, NOW).whole_minutes()

    assert asked(NOW - timedelta(minutes=5)) == Span(until - timedelta(minutes=4), until)
    assert asked(until - timedelta(minutes=5)) == Span(until - timedelta(minutes=5), until)
    assert asked(NOW - timedelta(days=3)).since == until - timedelta(hours=24)
    with pytest.raises(RunbookError, match="none has passed yet"):
        asked(NOW - timedelta(seconds=70))


# --- the file ---------------------------------------------------------------------------------------------------------


def write(path: Path, *entries: tuple[int, str]) -> None:
    """Lines that are so many seconds old, the oldest first."""
    with path.open("a") as log:
        for age_s, text in entries:
            log.write(f"{(NOW - timedelta(seconds=age_s)).isoformat()} {text}\n")


def counted(path: Path, span_s: int = 600, pattern: str = "ERROR") -> Count:
    return driver.LogFile(path, Lines.of(pattern)).count(Span(NOW - timedelta(seconds=span_s), NOW))


def stamp(path: Path, age_s: int) -> None:
    at = (NOW - timedelta(seconds=age_s)).timestamp()
    os.utime(path, (at, at))


def test_a_log_is_counted_by_its_times(tmp_path):
    path = tmp_path / "app.log"
    write(path, (601, "ERROR old"), (600, "ERROR"), (300, "INFO"), (1, "ERROR"), (0, "ERROR of the next span"))
    assert counted(path) == Count(2, 600, 3)


def test_a_huge_log_is_read_from_near_the_span(tmp_path, monkeypatch):
    path = tmp_path / "app.log"
    monkeypatch.setattr(driver, "_FIRST_BYTES", 200)
    write(path, *((age, "ERROR" if age % 10 == 0 else "INFO") for age in range(5000, 0, -1)))
    monkeypatch.setattr(driver, "_MOST_BYTES", 100_000)
    assert path.stat().st_size > 150_000
    assert counted(path) == Count(60, 600, 600)
    with pytest.raises(RunbookError, match="so much is not read"):
        counted(path, 4000)


def test_a_log_that_was_rotated_meanwhile_is_read_whole(tmp_path):
    path = tmp_path / "app.log"
    write(path, (500, "ERROR"), (400, "INFO"))
    path.rename(tmp_path / "app.log.1")
    write(path, (300, "ERROR"))
    stamp(tmp_path / "app.log.1", 400)
    assert counted(path) == Count(2, 600, 3)
    # By a copy that is compressed, while the log itself goes on.
    (tmp_path / "app.log-20261129.gz").write_bytes(gzip.compress((tmp_path / "app.log.1").read_bytes()))
    (tmp_path / "app.log.1").unlink()
    assert counted(path) == Count(2, 600, 3)
    # What belongs to somebody else, or is older, is not.
    write(tmp_path / "app-api.log", (100, "ERROR"))
    write(tmp_path / "app.log.2", (599, "ERROR"))
    stamp(tmp_path / "app.log.2", 601)
    assert counted(path) == Count(2, 600, 3)


def test_the_lines_of_a_stack_trace_belong_to_the_line_before(tmp_path):
    path = tmp_path / "app.log"
    write(path, (601, "ERROR old"))
    with path.open("a") as log:
        log.write("  ERROR of the old one\n")
    write(path, (10, "INFO"))
    with path.open("a") as log:
        log.write("  ERROR of the new one\n" + "x" * 20_000 + " ERROR beyond what is looked at\n")
    assert counted(path) == Count(1, 600, 3)


def test_a_log_that_cannot_be_read_is_unknown(tmp_path):
    path = tmp_path / "app.log"

    def says(text: str) -> None:
        with pytest.raises(RunbookError, match=text) as refused:
            counted(path)
        assert refused.value.status is Status.UNKNOWN

    says("No such file")
    path.mkdir()
    says("cannot be read")
    path.rmdir()
    path.write_text("ERROR without a time\n")
    stamp(path, 5)
    says("no line of it says that it is of that time")


def test_an_empty_or_silent_log_has_no_errors(tmp_path):
    path = tmp_path / "app.log"
    path.touch()
    assert counted(path) == Count(0, 600, 0)
    write(path, (3600, "ERROR"))
    stamp(path, 3600)
    assert counted(path) == Count(0, 600, 0)
    assert replace(Count(0, 600, 0), errors=1).proof == "1 errors in 600 s of 0 lines"


def test_what_is_no_regular_expression_is_refused():
    with pytest.raises(RunbookError, match=r"file_pattern: '\(' is no regular expression"):
        Lines.of("(")
