"""What outlasts a look at certificates."""

from __future__ import annotations

import math

from ansible.module_utils.runbook.report.sections.tls import SECTIONS

DUE = {"renewal": "due", "due_at": "1970-01-01T00:01:00+00:00", "not_after": "1970-01-01T00:03:00+00:00"}


def lasting(*checks: tuple[str, str, str], addresses: list[dict[str, str]]) -> dict[str, object]:
    named = [dict(zip(("subject", "name", "status"), each, strict=True)) for each in checks]
    step = {
        "started_at": "1970-01-01T00:00:00.000Z",
        "duration_s": 2.0,
        "figures": {"checks": named, "addresses": addresses},
    }
    assert SECTIONS[0].lasting is not None
    return dict(SECTIONS[0].lasting([step]))


def test_what_is_only_due_has_its_moments_and_is_no_fault():
    kept = lasting(
        ("app", "reach", "ok"),
        ("app", "lifetime", "breach"),
        addresses=[
            {"endpoint": "app", **DUE},
            {"endpoint": "app", **DUE, "due_at": "1970-01-01T00:00:30+00:00"},
        ],
    )
    assert kept == {
        "tls_ok": {"app": 1.0},
        "tls_last_check_timestamp_seconds": 2.0,
        # Of several addresses the one that is due first.
        "tls_due_timestamp_seconds": {"app": 30.0},
        "tls_not_after_timestamp_seconds": {"app": 180.0},
    }


def test_what_has_expired_is_a_fault_and_what_was_not_seen_is_no_number():
    kept = lasting(
        ("old", "lifetime", "breach"),
        ("gone", "reach", "unknown"),
        addresses=[{"endpoint": "old", **DUE, "renewal": "expired"}, {"endpoint": "gone"}],
    )
    ok = kept["tls_ok"]
    assert isinstance(ok, dict)
    assert ok["old"] == 0.0
    assert math.isnan(ok["gone"])
    assert kept["tls_due_timestamp_seconds"] == {"old": 60.0}
