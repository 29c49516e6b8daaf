"""What an inventory lacks for a change, before anything is opened."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.rules.change import checklist, readiness
from conftest import ROOT

DEFAULTS = yaml.safe_load((ROOT / "roles/change/defaults/main.yml").read_text())
#: What a change needs at least: a place, a backup, and something to look at.
LEAST = {
    "state_bucket": "state",
    "backup_bucket": "backups",
    "change_health_pages": [{"name": "health", "url": "https://app.clinic.eu/healthz"}],
}
SOAK = {
    "change_soak_prometheus_url": "http://prom:9090",
    "change_soak_metrics": [{"name": "errors", "query": "up", "max": 1}],
}
BREAK = checklist.needed("restore_swap.yml", "production", {})


def lacks(*needs: str, **said: Any) -> list[str]:
    return readiness.lacks(needs or BREAK, DEFAULTS | LEAST | said)


def test_an_inventory_with_a_store_a_bucket_and_a_page_is_ready():
    assert lacks() == []


def test_all_that_last_weeks_inventory_lacks_is_said_at_once():
    said = readiness.lacks(checklist.needed("weekly_db.yml", "production", {}), DEFAULTS)
    assert [each.partition(":")[0] for each in said] == [
        "state_bucket, state_directory",
        "backup_bucket",
        "change_health_pages, change_smoke_queries",
        "change_function_pages, change_soak_metrics",
    ]
    assert "nobody would see whether the application works" in said[2]
    refusal = readiness.refusal("weekly_db.yml", said)
    assert refusal.startswith("weekly_db.yml is run as a change, and the inventory lacks what that needs. state_bucket")


@pytest.mark.parametrize(("said", "sentence"), [
    ({"state_bucket": ""}, "state_bucket, state_directory: neither is set"),
    ({"state_bucket": "<your-bucket>"}, "state_bucket: still as in the example"),
    ({"backup_bucket": ""}, "backup_bucket: it is not set"),
    ({"change_ticket_backend": "githup"},
     "change_ticket_backend: 'githup' is no service that there is; take one of none, github, jira, webhook."),
    ({"change_ticket_backend": "github", "change_ticket_github_repository": "clinic/ops"},
     "change_ticket_github_token: it is not set, and backend github needs it"),
    ({"change_ticket_jira_url": "https://jira.clinic.eu"},
     "change_ticket_jira_url: it is set, and backend none has no use for it"),
    ({"change_ticket_backend": "webhook", "change_ticket_webhook_url": "https://hook.example.com/x"},
     "change_ticket_webhook_url: still as in the example"),
    ({"change_status_page_backend": "statuspage", "change_status_page_statuspage_page": "a b",
      "change_status_page_statuspage_token": "t"}, "change_status_page_statuspage_page: 'a b' is no id of a page"),
    ({"change_status_page_components": None}, "change_status_page_*: a value has another form than it must"),
    ({"change_notice_backend": "email", "change_notice_email_host": "mail", "change_notice_email_from": "a@b.eu",
      "change_notice_email_to": ["ops"]}, "change_notice_email_to: 'ops' is no address of a mailbox"),
    ({"change_silence_backend": "alertmanager", "change_silence_alertmanager_url": "http://alerts:9093"},
     "change_silence_matchers: none of them is a label with a plain value"),
    ({"change_silence_backend": "grafana"}, "change_silence_grafana_url: it is not set"),
    ({"change_mode_backend": "nginx"}, "change_mode_nginx_flag_dir: it is not set"),
    ({"change_error_logs_backend": "prometheus", "change_error_logs_prometheus_url": "http://prom:9090",
      "change_error_logs_prometheus_query": "sum(errors)"}, "change_error_logs_prometheus_query: it has no $__range"),
    ({"change_health_pages": [{"name": "health", "url": "app"}]},
     "change_health_pages: health: url: 'app' is no address"),
    ({"change_health_pages": [{"naem": "health"}]},
     "change_health_pages: a value has another form than it must; see ansible-doc -t module change_probe."),
    ({"change_health_pages": [{"name": "health", "url": "https://app.example.com/"}]},
     "change_health_pages: still as in the example"),
    ({"change_soak_metrics": [{"name": "errors", "query": "up", "max": 1}]},
     "change_soak_prometheus_url, change_soak_metrics: one is set without the other"),
    (SOAK | {"change_soak_prometheus_url": "prom:9090"}, "change_soak_prometheus_url: 'prom:9090' is no address"),
    (SOAK | {"change_soak_prometheus_user": "a"},
     "change_soak_prometheus_password: it is empty, and change_soak_prometheus_user is given; give both or none."),
    (SOAK | {"change_soak_prometheus_user": "a", "change_soak_prometheus_password": "b",
             "change_soak_prometheus_token": "c"},
     "change_soak_prometheus_user: change_soak_prometheus_token is given too"),
    (SOAK | {"change_soak_prometheus_user": "a", "change_soak_prometheus_password": "b"},
     "change_soak_prometheus_url: it would send change_soak_prometheus_password unencrypted; use https."),
    ({"change_silence_backend": "alertmanager", "change_silence_alertmanager_url": "http://alerts:9093",
      "change_silence_alertmanager_user": "a", "change_silence_alertmanager_password": "b"},
     "change_silence_alertmanager_url: it would send change_silence_alertmanager_password unencrypted"),
    ({"change_error_logs_backend": "prometheus", "change_error_logs_prometheus_url": "https://prom:9090",
      "change_error_logs_prometheus_query": "sum(errors[$__range])", "change_error_logs_prometheus_user": "a",
      "change_error_logs_prometheus_password": "b", "change_error_logs_prometheus_token": "c"},
     "change_error_logs_prometheus_user: change_error_logs_prometheus_token is given too"),
    ({"change_soak_duration_s": 10}, "change_soak_min_samples: in 10 s one every 15 s gives 1 sample"),
])  # fmt: skip
def test_each_gap_is_one_sentence_with_the_variable_and_the_fix(said, sentence):
    assert sentence in "\n".join(lacks(**said))


def test_what_no_line_needs_is_not_asked_for():
    assert readiness.lacks(("ticket",), DEFAULTS | {"state_directory": "/srv/state"}) == []
    assert lacks("work", change_ticket_backend="github") == []
    assert lacks("health", change_health_pages=[], change_smoke_queries=[{"name": "one", "query": "SELECT 1"}]) == []


def test_a_query_may_have_names_in_angle_brackets():
    loki = {
        "change_error_logs_backend": "loki", "change_error_logs_loki_url": "http://loki:3100",
        "change_error_logs_loki_query": 'sum(count_over_time({a="b"} | pattern "<method> <_>" [$__range]))',
        "change_error_logs_loki_lines_query": 'sum(count_over_time({a="b"}[$__range]))',
    }  # fmt: skip
    assert lacks(**loki) == []


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_an_inventory_to_be_copied_is_ready_once_it_is_filled_in(environment):
    folder = ROOT / "inventories" / environment / "group_vars"
    texts = [(folder / name).read_text() for name in ("all/main.yml", "databases/backup.yml", "databases/change.yml")]

    def said(text: str) -> dict[str, Any]:
        return {**DEFAULTS, **yaml.safe_load(text)}

    as_it_is = [readiness.lacks(BREAK, said("\n".join(texts).replace("---", "")))]
    assert as_it_is == [
        ["change_function_pages, change_health_pages: still as in the example; put your own value there."]
    ]
    filled = "\n".join(texts).replace("---", "").replace("example.com", "clinic.eu")
    assert readiness.foretell({"restore_swap.yml"}, environment, said(filled)) == []
    # What stands there as a comment is right, too.
    text = re.sub(r"^# (?=change_)", "", filled, flags=re.MULTILINE)
    everything = said(re.sub(r"\{\{ (\w+) \}\}", r"https://clinic.eu/\1", text))
    assert everything["change_mode_backend"] == "nginx"
    assert readiness.foretell({"restore_swap.yml"}, environment, everything) == []


def test_the_doctor_names_the_operations_that_lack_something():
    playbooks = {"weekly_db.yml", "rollback.yml", "backup.yml"}
    assert readiness.foretell(playbooks, "production", DEFAULTS | LEAST) == []
    assert readiness.foretell(playbooks, "sandbox", DEFAULTS) == []
    (said,) = readiness.foretell(playbooks, "production", DEFAULTS | LEAST | {"state_bucket": ""})
    assert said.endswith("in group_vars/all/main.yml. Needed by weekly_db.yml, rollback.yml replace.")
    mode = {"change_mode_backend": "nginx", "change_mode_nginx_flag_dir": "/var/lib/runbook/maintenance"}
    (said,) = readiness.foretell(playbooks, "production", DEFAULTS | LEAST | mode)
    assert said.endswith("Needed by rollback.yml replace.")
    # A mistake in the lists is a line of the table, too.
    for wrong, sentence in (
        ({"change_needs": {"weekly_db.yml": ["tiket"]}}, "'tiket' is no line; did you mean ticket?"),
        ({"change_blocks": {"teem": True}}, "'teem' is no line; did you mean team?"),
        ({"change_needs": ["weekly_db.yml"]}, "one of them is no dictionary"),
    ):
        (said,) = readiness.foretell(playbooks, "production", DEFAULTS | LEAST | wrong)
        assert sentence in said


def test_preflight_reads_the_variables_of_a_change_only_where_there_is_one():
    def read():
        raise AssertionError

    assert readiness.before("weekly_db.yml", "sandbox", {}, read) == []
    assert readiness.before("weekly_db.yml", "production", {"weekly_db.yml": []}, read) == []
    assert readiness.before("weekly_db.yml", "production", {"weekly_db.yml": ["tiket"]}, read) == []
    assert readiness.before("weekly_db.yml", "production", {"weekly_db.yml": ["team"]}, lambda: DEFAULTS) != []


def test_a_mode_that_nobody_sees_leaves_its_lines_unknown():
    mode = {"change_mode_backend": "nginx", "change_mode_nginx_flag_dir": "/var/lib/runbook/maintenance"}
    (said,) = readiness.unknowns(BREAK, DEFAULTS | mode)
    assert said.startswith("change_mode_probe_url: it is not set")
    assert readiness.unknowns(BREAK, DEFAULTS) == []
    assert readiness.unknowns(BREAK, DEFAULTS | mode | {"change_mode_probe_url": "https://app.clinic.eu/"}) == []
