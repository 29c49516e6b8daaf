"""When limits are met, what is said of it, what it costs, and the alerts that are offered."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.capacity import alerts, outlook, prices, savings
from ansible.module_utils.runbook.rules.capacity.outlook import Limit, Outlook
from ansible.module_utils.runbook.rules.capacity.quantity import Quantity, quantities

TODAY = date(2026, 11, 29)
SIZE = Quantity("database_size", "database_size", "bytes", "level")
FILE: dict[str, Any] = {
    "dated": "2026-11-01", "source": "https://example.com/prices", "currency": "USD",
    "tracks": {
        "plan": [
            {
                "name": "pro", "month": 25, "credit": 10,
                "usage": {"database_size": {"included": 100, "per": 10, "price": 2}},
            },
        ],
        "compute": [
            {"name": "micro", "month": 10, "limits": {"connections": 60}},
            {"name": "small", "month": 15, "limits": {"connections": 90}},
            {"name": "large", "month": 110, "limits": {"connections": 160}},
        ],
    },
}  # fmt: skip


def days(values, *, last=TODAY) -> dict[date, float]:
    return {last - timedelta(days=len(values) - 1 - at): float(value) for at, value in enumerate(values)}


def of(values, limit: float | None = None, *, quantity: Quantity = SIZE, **more: Any) -> Outlook:
    """An outlook at today."""
    return outlook.outlook(quantity, days(values), Limit(limit, "plan") if limit else None, today=TODAY, **more)


def findings(found: Outlook) -> list[tuple[str, str]]:
    return [(each.id, each.severity) for each in outlook.judge(found, today=TODAY, lead_days=30)]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (150, [("capacity_passed:database_size", "critical")]),
        (159, [("capacity_passed:database_size", "critical")]),
        (180, [("capacity_limit:database_size", "critical")]),
        (230, [("capacity_limit:database_size", "warning")]),
        (300, []),
        (None, []),
    ],
)
def test_a_limit_is_critical_when_it_is_passed_or_met_before_there_is_room(limit, expected):
    assert findings(of(range(100, 160), limit)) == expected


def test_the_dates_are_those_of_the_line():
    found = of(range(100, 160), 180)
    assert (found.reached("p50"), found.reached("p90")) == (date(2026, 12, 20), date(2026, 12, 20))
    assert found.ahead(92) is not None
    assert found.result()["p90"] == pytest.approx(251, abs=1)
    assert found.result()["limit_p50_on"] == "2026-12-20"


def test_what_shrinks_meets_no_limit():
    found = of(range(200, 100, -1), 300)
    assert (found.reached("p50"), findings(found)) == (None, [])


def test_a_short_history_is_unknown_and_only_time_can_tell():
    found = of([1.0, 2.0, 3.0], 10)
    (unknown,) = outlook.unknown(found)
    assert (unknown.kind, unknown.fixable) == ("database_size", False)
    assert "2 days of history, and a forecast of a quarter needs 31" in unknown.msg
    assert found.result()["p50"] is None


def test_the_fifteen_days_that_prometheus_keeps_are_no_month():
    (unknown,) = outlook.unknown(of(range(15), 100))
    assert "14 days of history" in unknown.msg


def test_a_history_with_holes_says_so():
    holes = {TODAY - timedelta(days=30 * at): 1.0 for at in range(12)}
    found = outlook.outlook(SIZE, holes, None, today=TODAY)
    assert "larger gaps than days" in outlook.unknown(found)[0].msg


def test_a_limit_is_passed_whatever_the_history():
    assert findings(of([1.0, 20.0], 10)) == [("capacity_passed:database_size", "critical")]


def test_a_source_that_gave_nothing_keeps_its_history():
    found = of(range(60), why_not="database_size: nobody answered.")
    (unknown,) = outlook.unknown(found)
    assert (unknown.fixable, len(found.result()["history"])) == (True, 60)


def test_an_old_value_is_not_of_now():
    old = outlook.outlook(SIZE, days(range(60), last=TODAY - timedelta(days=11)), None, today=TODAY)
    assert "its newest value is of 2026-11-18" in outlook.unknown(old)[0].msg


def test_an_amount_is_told_by_the_month():
    runs = Quantity("runs", "supabase_function_runs", "runs", "amount")
    found = of([100.0] * 60, 5_000, quantity=runs)
    assert found.now is not None
    assert found.now == pytest.approx(3043.75)
    assert runs.text(found.now) == "3,044 runs a month"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "A b", "source": "s3"}, "no name"),
        ({"name": "a", "source": "s3"}, "no bucket"),
        ({"name": "a", "source": "sql", "query": "SELECT 1"}, "no unit"),
        ({"name": "a", "source": "connections", "table": "t"}, "which has no table"),
        ({"name": "a", "source": "connections", "kind": "counter"}, "only a quantity of Prometheus"),
        ({"name": "a", "source": "connections", "limit": 0}, "above 0"),
    ],
)
def test_a_quantity_that_cannot_be_read_is_refused(given, said):
    with pytest.raises(RunbookError, match=said):
        quantities([given])
    with pytest.raises(RunbookError, match="there is none"):
        quantities([])


# Prices ---------------------------------------------------------------------------------------------------------------


def test_cost_now_and_then_and_the_step_that_is_needed():
    offer = prices.Prices.of(FILE)
    choice = offer.choice({"plan": "pro", "compute": "small"})
    connections = Quantity("connections", "connections", "connections", "level")
    held = of([40 + at / 2 for at in range(60)], 90, quantity=connections)
    made = prices.bill(offer, choice, [of([120.0] * 60), held])
    assert made.now == 25 + 5 + 4
    assert (made.p50, made.p90) == (25 + 100 + 4, 25 + 100 + 4)
    assert made.steps == (
        {
            "track": "compute", "from": "small", "to": "large", "by": "2027-01-09", "because_of": "connections",
            "month_now": 15, "month_then": 110, "currency": "USD",
        },
    )  # fmt: skip
    assert prices.limit_of("connections", choice) == Limit(90, "compute small")
    assert prices.limit_of("users", choice) is None


def test_a_step_that_is_larger_than_needed_is_named_only_where_all_its_limits_are_known():
    offer = prices.Prices.of(FILE)
    choice = offer.choice({"plan": "pro", "compute": "large"})
    few = of([20.0] * 60, quantity=Quantity("connections", "connections", "connections", "level"))
    assert [each.id for each in prices.bill(offer, choice, [few]).findings] == ["oversized_plan:compute"]
    assert prices.bill(offer, choice, [of([1.0] * 60)]).findings == ()


def test_nothing_that_is_large_enough_is_said():
    offer = prices.Prices.of(FILE)
    many = of(range(100, 160), quantity=Quantity("connections", "connections", "connections", "level"))
    (step,) = prices.bill(offer, offer.choice({"plan": "pro", "compute": "large"}), [many]).steps
    assert (step["to"], step["month_then"]) == ("larger than the file of prices has", None)


def test_old_prices_are_not_believed():
    offer = prices.Prices.of(FILE)
    assert offer.why_stale(date(2027, 5, 10)) == ""
    assert "191 days old" in offer.why_stale(date(2027, 5, 11))


@pytest.mark.parametrize(
    ("change", "chosen", "said"),
    [
        ({"dated": "soon"}, {}, "write the day as"),
        ({"tracks": {"plan": [{"name": "pro"}]}}, {}, "lacks month"),
        ({}, {"plan": "pro"}, "compute has none"),
        ({}, {"plan": "pro", "compute": "tiny"}, "has micro, small, large"),
    ],
)
def test_a_file_of_prices_that_is_wrong_is_refused(change, chosen, said):
    with pytest.raises(RunbookError, match=said):
        prices.Prices.of(FILE | change).choice(chosen)


# Savings and alerts ---------------------------------------------------------------------------------------------------


def test_what_others_found_is_named():
    found = [
        *savings.of_indexes("2026-11-01-performance", {"findings": [
            {"kind": "unused_index", "evidence": {"size_bytes": 2**30}}, {"kind": "slow_query", "evidence": {}},
        ]}),
        *savings.of_bloat("2026-11-01-monthly_db", {"bloat_bytes": 2**29}),
        *savings.of_files([of([1.0, 2.0], cold_bytes=2**31)], cold_days=180),
    ]  # fmt: skip
    assert [each.id for each in found] == [
        "saving:useless_indexes", "saving:bloat", "saving:cold_files.database_size",
    ]  # fmt: skip
    assert "1 index that nothing needs takes 1.0 GiB (2026-11-01-performance)." in found[0].msg
    assert list(savings.of_bloat("run", {"bloat_bytes": None})) == []


def test_offered_alerts_pass_their_own_tests(tmp_path):
    users = Quantity("active_users", "sql", "users", "level")
    made = alerts.rules(
        [of(range(100, 160), 300), of([50.0] * 60, 100, quantity=users)],
        environment="production",
        host='db"1',
        lead_days=30,
    )
    assert [(each.alert, each.threshold) for each in made] == [
        ("RunbookCapacityDatabaseSize", 270.0), ("RunbookCapacityActiveUsers", 95.0),
    ]  # fmt: skip
    rules = alerts.rule_file(made, lead_days=30)
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "test.yml").write_text(alerts.test_file(made, lead_days=30, rule_file_name="alerts.yml"))
    assert alerts.difference(rules, rules, name="alerts.yml") == []
    assert any(line.startswith("+") and "270" in line for line in alerts.difference("", rules, name="alerts.yml"))
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus), so the offered rules were not tried")
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_limit_no_alert_is_offered():
    made = alerts.rules([of(range(60)), of([1.0, 2.0], 10)], environment="production", host="db1", lead_days=30)
    assert made == []
    assert "rules: []" in alerts.rule_file(made, lead_days=30)
