"""What the doctor makes of what it finds, and its table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report.sections import doctor as report
from ansible.module_utils.runbook.rules import doctor as rules
from ansible.module_utils.runbook.rules import identity
from ansible.module_utils.runbook.rules.status import Check, Status
from conftest import ROOT, job

NOW = datetime(2026, 1, 4, 2, tzinfo=UTC)


def test_every_playbook_that_needs_a_user_is_there():
    assert {*rules.USER_OF, *rules.BY_HAND} <= {path.name for path in (ROOT / "playbooks").glob("*.yml")}


def test_only_what_is_scheduled_or_done_by_hand_is_looked_at():
    assert "backup" in rules.users(rules.wanted({"night": job("backup.yml")}))
    assert rules.users(rules.wanted({"night": job("backup.yml", tags=["x"])})) == rules.users(
        rules.wanted({"night": job("backup.yml")})
    )
    assert rules.judge_jobs({"night": job("pitr.yml")}, ["pitr.yml"]).status == "ok"
    assert "there is no bakup.yml" in rules.judge_jobs({"night": job("bakup.yml")}, ["pitr.yml"]).msg
    later = {"a": job("backup.yml", disabled="not yet"), "b": job("capacity.yml")}
    assert "backup" not in rules.users(rules.wanted(later))
    assert "maintain" not in rules.users(rules.wanted({"night": job("backup.yml")}))
    assert rules.users(rules.wanted({"night": job("backup.yml")}))["review"] == ["performance.yml"]
    # Where nothing is scheduled, anything may be run.
    assert set(rules.users(rules.wanted({}))) == {"maintain", "backup", "restore", "review", "admin"}


@pytest.mark.parametrize(
    ("window", "more", "says"),
    [
        ({"begin": "02:00", "end": "04:00"}, {}, ""),
        # 02:00 UTC is 03:00 in Berlin in winter and 04:00 in summer, and a window ends before its end.
        (
            {"begin": "02:00", "end": "04:00", "timezone": "Europe/Berlin"},
            {},
            "night (31 times of 52 in a year, first Sun 2027-03-28 02:00 UTC)",
        ),
        ({"begin": "02:00", "end": "05:00", "timezone": "Europe/Berlin"}, {}, ""),
        ({"begin": "03:00", "end": "04:00"}, {"disabled": "not yet"}, ""),
        ({"begin": "03:00", "end": "04:00"}, {"playbook": "backup.yml"}, ""),
        ({"begin": "03:00", "end": "04:00"}, {"playbook": "rotate_keys.yml"}, ""),
        (
            {"begin": "03:00", "end": "04:00"},
            {"playbook": "rotate_keys.yml", "variables": {"key_rotation_action": "create"}},
            "night (52 times of 52",
        ),
    ],
)
def test_a_job_that_needs_a_window_is_due_inside_of_one_all_the_year(window, more, says):
    each = {
        "playbook": "weekly_db.yml", "hosts": ["databases"], "rhythm": "weekly", "weekday": "sunday", "time": "02:00",
        "max_duration_min": 60,
    } | more  # fmt: skip
    freeze = {
        "id": "f", "begin": "2026-12-19 00:00", "end": "2027-01-04 00:00", "scope": "all", "reason": "r", "owner": "o",
    }  # fmt: skip
    calendar = {"windows": [{"id": "w", "kind": "weekly", "weekday": "sunday"} | window], "freezes": [freeze]}
    found = rules.judge_windows({"night": each}, calendar, {}, datetime(2026, 11, 30, tzinfo=UTC))
    assert (found.status, says in found.msg) == ("breach" if says else "ok", True), found.msg


def test_without_a_calendar_every_hour_is_open_and_a_mistake_in_it_is_unknown_here():
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert rules.judge_windows({"night": job("weekly_db.yml")}, {}, {}, now).status == "ok"
    assert rules.judge_windows({"night": job("weekly_db.yml")}, {"windos": []}, {}, now).status == "unknown"


@pytest.mark.parametrize(
    ("mode", "host", "environment", "status"),
    [
        ("disable", "db.clinic.eu", "production", "breach"),
        ("prefer", "10.1.2.3", "staging", "breach"),
        ("require", "db.clinic.eu", "production", "ok"),
        ("disable", "127.0.0.1", "production", "ok"),
        ("disable", "/run/postgresql", "production", "ok"),
        ("prefer", "db", "sandbox", "ok"),
    ],
)
def test_rows_of_patients_travel_encrypted(mode, host, environment, status):
    found = rules.judge_unproven("database ca_cert", mode, host, environment)
    assert found.status == status
    assert ("verify-full" in found.msg) is (status == "breach")


def test_the_server_of_proofs_is_pinned_in_a_variable_of_its_own():
    for pinned in ("", "seven", "8"):
        with pytest.raises(RunbookError, match="backup_proof_system_identifier") as refused:
            identity.check(
                "7", "postgres", system_identifier=pinned, database="postgres",
                pin="backup_proof_system_identifier", login="backup_proof_login",
            )  # fmt: skip
        assert "preflight_" not in refused.value.message
        assert "db_login" not in refused.value.message


@pytest.mark.parametrize(
    ("left", "status"),
    [(timedelta(days=31), "ok"), (timedelta(days=30), "ok"), (timedelta(days=29), "breach"), (-timedelta(1), "breach")],
)
def test_a_certificate_that_ends_soon_is_not_ok(left, status):
    found = rules.judge_end("c", "It", NOW + left, NOW, least_days=30, fix="renew it")
    assert found.status == status
    assert f"{NOW + left:%Y-%m-%d}" in found.msg
    assert ("renew it" in found.msg) is (status != "ok")


def test_all_that_is_wrong_with_secrets_is_one_line():
    found = rules.judge_vault(locked=["a"], examples=["b"], plain=["c"], encrypted=3)
    assert found.status == "breach"
    assert all(word in found.msg for word in ("do not open a", "password of b", "Not encrypted: c"))
    assert rules.judge_vault(locked=[], examples=[], plain=[], encrypted=3).status == "ok"


def test_versions():
    assert rules.judge_client("16.4", 16, 170002).status == "breach"
    assert rules.judge_client("17.0", 17, 170002).status == "ok"
    assert rules.judge_proof_server(170002, 160004).status == "breach"
    assert rules.judge_proof_server(160004, 170002).status == "ok"


def test_a_server_that_has_no_pg_repack_is_not_red_for_ever():
    assert rules.judge_repack(None, "it is not installed", offered=None, is_superuser=True).status == "ok"
    assert rules.judge_repack("1.5.2", "", offered="1.5.2", is_superuser=False).status == "ok"
    assert rules.judge_repack("1.4.8", "", offered="1.4.8", is_superuser=True).status == "ok"
    refused = rules.judge_repack(None, "there is no program pg_repack", offered="1.5.2", is_superuser=False)
    assert (refused.status, "no program" in refused.msg) == ("breach", True)
    # The server's would help nobody but a superuser: missing, without rights and with them it is the same.
    told = {
        rules.judge_repack(version, reason, offered="1.4.8", is_superuser=False)
        for version, reason in ((None, "it is not installed"), (None, "GRANT USAGE"), ("1.4.8", ""))
    }
    (same,) = told
    assert same.status == "ok"
    assert "version 1.4.8, which the server offers, works for superusers only; from 1.5.2 on" in same.msg
    # A newer one lies there.
    old = rules.judge_repack("1.4.8", "", offered="1.5.2", is_superuser=False)
    assert (old.status, "the server offers 1.5.2" in old.msg) == ("breach", True)


def test_a_proof_has_a_server_of_its_own_but_in_a_sandbox():
    assert rules.judge_proof_apart("1", "2", "production").status == "ok"
    assert rules.judge_proof_apart("1", "1", "sandbox").status == "ok"
    same = rules.judge_proof_apart("1", "1", "production")
    assert (same.status, "backup_proof_login_host" in same.msg) == ("breach", True)


def test_the_sentence_names_what_is_not_ok():
    good, bad = Check.ok("vault", "x"), Check.unknown("proof", "y")
    assert rules.summary([good, good]) == "All 2 checks are ok."
    assert rules.summary([good, bad]) == "1 of 2 checks is not ok: proof; the table has all."


def test_of_a_bucket_each_bad_line_is_shown():
    good, bad = Check.ok("environment", "x"), Check.unknown("versioning", "y")
    assert rules.bucket("bucket", [good, good]) == [Check.ok("bucket", "Reachable. All 2 checks are ok.")]
    assert rules.bucket("bucket", [good, bad]) == [Check.unknown("bucket versioning", "y")]


def test_the_table_is_as_wide_as_a_terminal_and_what_is_bad_comes_last():
    checks = [
        {"name": "vault", "status": "breach", "msg": "word " * 40},
        {"name": "record", "status": "ok", "msg": "Well."},
        {"name": "a name that is longer than its column", "status": "unknown", "msg": "x" * 100},
    ]

    def lines_of(module: str) -> list[str]:
        step = {"module": module, "figures": {"checks": checks}}
        return report.lines({"hosts": {"db1": {"steps": [step]}}}, "db1", 79)

    lines = lines_of("runbook_doctor")
    assert max(map(len, lines)) <= 79
    assert [line.split()[0] for line in lines if line[2] != " "] == ["record", "vault", "a"]
    assert lines_of("pg_vacuum") == []


def test_bloat_that_nobody_can_know_is_a_breach():
    assert rules.judge_measuring("", ["public.t"]).status == Status.OK
    assert rules.judge_measuring("run x", []).status == Status.OK
    found = rules.judge_measuring("run x", ["public.t"])
    assert (found.status, found.msg) == (Status.BREACH, "The bloat of public.t is unknown: run x.")


def test_the_owners_of_what_is_proven_are_looked_for():
    assert rules.judge_proof_roles("prover", [], []).status == Status.OK
    found = rules.judge_proof_roles("prover", ["gone"], ["app"])
    assert found.status == Status.BREACH
    assert "has no role gone" in found.msg
    assert found.msg.endswith('prover cannot give objects to app; run there: GRANT "app" TO "prover";')
    # What is to be run is whole, however many there are.
    many = [f"Role {number}" for number in range(7)]
    assert 'CREATE ROLE "Role 6" NOLOGIN;' in rules.judge_proof_roles("prover", many, []).msg
    assert rules.judge_proof_roles("prover", [], many).msg.endswith('"Role 5", "Role 6" TO "prover";')


def test_a_server_is_another_machine_and_pinned():
    pinned = {"name": "web1", "connection": "ssh", "machine_id": "ab"}
    assert [rules.judge_servers(servers, "production").status for servers in ([], [pinned])] == ["ok", "ok"]
    here = rules.judge_servers([pinned | {"connection": "local"}], "production")
    assert (here.status, "web1 would be this machine" in here.msg) == ("breach", True)
    open_ = rules.judge_servers([pinned, pinned | {"name": "web2", "machine_id": ""}], "sandbox")
    assert (open_.status, "empty for web2;" in open_.msg) == ("breach", True)


@pytest.mark.parametrize(
    ("more", "runs"),
    [
        ({}, True),
        ({"tags": ["rotate"]}, True),
        ({"tags": ["verify"]}, False),
        ({"hosts": ["databases"]}, False),
        ({"playbook": "backup.yml"}, False),
        ({"disabled": "not yet"}, False),
    ],
)
def test_what_is_scheduled_for_a_host_is_looked_at_there(more, runs):
    jobs = {"x": job("logs.yml", hosts=["servers"]) | more, "y": job("heartbeat.yml")}
    assert rules.is_run(jobs, ["servers", "web"], "logs.yml rotate", otherwise=True) is runs
    without_tag = runs or "tags" in more
    assert rules.is_run(jobs, ["servers", "web"], "logs.yml", otherwise=True) is without_tag


@pytest.mark.parametrize("otherwise", [True, False])
def test_where_nothing_is_scheduled_a_variable_decides(otherwise):
    off = {"x": job("logs.yml", hosts=["servers"], disabled="not yet")}
    assert [rules.is_run(jobs, ["servers"], "logs.yml", otherwise=otherwise) for jobs in ({}, off)] == [otherwise] * 2
