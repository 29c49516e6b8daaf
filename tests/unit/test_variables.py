"""Which variables exist, and which names are refused."""

from __future__ import annotations

import doctest
import json
import re
import runpy
from typing import Any

import architecture
import pytest
from ansible.module_utils.runbook.rules import variables as rules
from conftest import ROOT
from jinja2 import Environment, nodes

SPECS = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
TEXTS = [
    path
    for folder in ("roles/*/defaults", "roles/*/tasks", "playbooks", "playbooks/tasks")
    for path in sorted(ROOT.glob(f"{folder}/*.yml"))
]
KNOWN = rules.known(
    tuple((path.parents[1].name, path.read_text()) for path in SPECS), tuple(path.read_text() for path in TEXTS)
)


def strings(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


def test_what_is_read_from_text_is_what_a_parser_finds():
    options = {
        name
        for path in SPECS
        for entry in architecture.read_yaml(path)["argument_specs"].values()
        for name in entry.get("options", {})
    }
    assert options <= KNOWN.names
    assert {name for name in KNOWN.names if name.startswith("__")} == set()
    for path in TEXTS:
        content = architecture.read_yaml(path)
        named = re.findall(r"'(?:register|loop_var)': '(\w+)'", repr(content))
        read = {
            name
            for text in strings(content)
            if "{{" in text
            for name in (node.name for node in Environment(autoescape=True).parse(text).find_all(nodes.Name))
        }
        own = {name for name in (*read, *named) if name.startswith(KNOWN.prefixes)}
        assert own <= KNOWN.names, path


def test_prefixes_are_the_roles_and_what_they_share():
    assert {f"{path.parents[1].name}_" for path in SPECS} <= set(KNOWN.prefixes)
    assert {"db_", "backup_", "runbook_", "supabase_", "preflight_", "sandbox_", "performance_"} <= set(KNOWN.prefixes)
    assert not {"ansible_", "inventory_", "vault_", "dr_", "file_"} & set(KNOWN.prefixes)


def test_every_variable_of_the_shipped_inventories_exists():
    for inventory in ("sandbox", "sandbox_supabase", "staging", "production"):
        found: dict[str, Any] = {}
        for path in (ROOT / "inventories" / inventory).rglob("*.yml"):
            content = architecture.read_yaml(path) or {}
            for group in ("databases", "applications", "monitoring"):
                hosts = (content.pop(group, None) or {}).get("hosts", {})
                found |= {name: value for host in hosts.values() for name, value in (host or {}).items()}
            found |= content
        assert rules.unknown(found, KNOWN) == {}
    # What they show in comments too.
    for path in (ROOT / "inventories").rglob("*.yml"):
        shown = re.findall(r"^ *# +(\w+):(?: |$)", path.read_text(), re.MULTILINE)
        own = {name for name in shown if name.startswith(KNOWN.prefixes)}
        assert own <= KNOWN.names, path


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("db_maintenance_audit_retention_day", "db_maintenance_audit_retention_days"),
        ("backup_prefx", "backup_prefix"),
        ("db_login_hots", "db_login_host"),
        ("runbook_enviroment", "runbook_environment"),
        ("preflight_lease_wait", "preflight_lease_wait_s"),
        ("supabase_projekt_ref", "supabase_project_ref"),
        ("sandbox_stat", "sandbox_state"),
        ("pitr_acton", "pitr_action"),
        ("dr_drill_rto", "dr_drill_rto_s"),
        # Without a prefix of the project.
        ("perfomance_apply", "performance_apply"),
        ("bakup_prefix", "backup_prefix"),
        ("dr_dril_rto_s", "dr_drill_rto_s"),
        ("file_miror_buckt", "file_mirror_bucket"),
        ("confrim", "confirm"),
        ("cofirm", "confirm"),
        # YAML takes them, and Ansible reads neither.
        ("Backup_Prefix", "backup_prefix"),
        ("backup-prefix", "backup_prefix"),
        ("CONFIRM", "confirm"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name, nearest):
    assert rules.unknown({name: 1}, KNOWN) == {name: nearest}
    said = rules.refusal({name: nearest})
    assert f"{name!r} (did you mean {nearest}?)" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "name",
    [
        "backup_prefix",
        "confirm",
        "performance_apply",
        "backup_verify_proof",
        "preflight_result",
        "vault_backup_acces_key",
        "ansible_connection",
        "inventory_hostname",
        "groups",
        "environment",
        "omit",
        "role_names",
        "login_host",
        "file_server",
        "drill_colour",
        "awx_job_id",
        "backups_of_another_kind",
        "form",
    ],
)
def test_other_names_are_left_alone(name):
    assert rules.unknown({name: 1}, KNOWN) == {}


def test_a_name_like_none_is_refused_too():
    assert rules.unknown({"db_zzz": 1}, KNOWN) == {"db_zzz": None}
    assert "'db_zzz' (nothing here is called like that)" in rules.refusal({"db_zzz": None})


def test_helpers_of_an_inventory_and_registered_results_are_left_alone():
    helper = {"backup_site": "eu", "backup_bucket": "copies-{{ backup_site }}"}
    assert rules.unknown(helper, KNOWN) == {}
    assert rules.unknown({"backup_site": "eu", "users": [{"x": "{{ backup_site | upper }}"}]}, KNOWN) == {}
    assert rules.unknown({"backup_site": "eu", "note": "about backup_site"}, KNOWN) == {"backup_site": "backup_profile"}
    assert rules.unknown({"backup_mine": {"changed": False, "failed": False}}, KNOWN) == {}


@pytest.mark.parametrize(
    ("variables", "said", "found"),
    [
        ({"key_rotation_found": {"changed": False, "to_create": []}}, [], []),
        ({"key_rotation_found": {"changed": False, "to_create": []}}, ["key_rotation_found"], ["key_rotation_found"]),
        ({"preflight_approved": {"change_needs": []}}, [], ["preflight_approved"]),
        ({"logs_table": "public.audit_log"}, [], []),
        ({"logs_table": "public.audit_log"}, ["logs_table"], ["logs_table"]),
        ({"key_rotation_action": "create"}, ["key_rotation_action"], []),
    ],
)
def test_what_only_tasks_set_is_refused(variables, said, found):
    assert rules.overridden(variables, said, KNOWN) == found
    assert all(name in rules.refusal_of_own(found) for name in found)


def test_many_are_told_in_one_sentence():
    found = rules.unknown({f"backup_zz{number}": 1 for number in range(12)}, KNOWN)
    assert len(found) == 12
    assert "and 4 more. Ansible would ignore them, so correct the names" in rules.refusal(found)


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(rules).failed == 0


def test_a_sentence_names_the_variable_that_the_playbook_reads():
    """backup_verify.yml lets the roles work on the server of proofs, whose variables have other names."""
    existing = rules.Known(frozenset({"db_login_user", "db_restore_login_user", "backup_proof_login_user"}), ("db_",))
    play = {
        "db_login_user": "{{ backup_proof_login_user | default('') }}",
        "db_restore_login_user": "{{ db_login_user }}",
        "db_login_password": "{{ vault_of_mine }}",
    }
    names = rules.set_in({"login_user": "{{ db_restore_login_user }}", "jobs": "{{ 1 + 1 }}"}, play, existing)
    assert rules.told("login_user 'x' may not; check db_login_user.", names) == (
        "backup_proof_login_user 'x' may not; check backup_proof_login_user."
    )
    assert rules.told("the login_username of db_login_user2 and a-login_user", names) == (
        "the login_username of db_login_user2 and a-login_user"
    )
    assert rules.told("Nothing to say: jobs.", names) == "Nothing to say: jobs."


def test_what_is_unknown_is_told_in_the_inventorys_words_too():
    """As a module's sentence and its checks are; with some modules it is a number."""
    translated = runpy.run_path(str(ROOT / "playbooks/action_plugins/forked_module.py"))["_in_variables"]
    names = {"deadline_s": "capacity_deadline_s"}
    line = json.dumps({"msg": "1 unknown", "unknown": [{"kind": "files", "msg": "files: give more in deadline_s."}]})
    assert json.loads(translated(line, names))["unknown"][0]["msg"] == "files: give more in capacity_deadline_s."
    assert json.loads(translated(json.dumps({"unknown": 3}), names)) == {"unknown": 3}


def test_the_name_of_a_check_or_of_a_setting_is_no_option():
    """A bucket's check is called as the option that asks for it."""
    translated = runpy.run_path(str(ROOT / "playbooks/action_plugins/forked_module.py"))["_in_variables"]
    names = {"tls_only": "backup_bucket_tls_only", "object_lock": "backup_bucket_object_lock"}
    said = {"msg": "Bucket x: 1 of 1 check is not ok. tls_only (unknown): tls_only is not known: no answer.",
            "checks": [{"name": "tls_only", "msg": "tls_only is not known: no answer."}]}  # fmt: skip
    assert json.loads(translated(json.dumps(said), names)) == said
    planned = {"msg": "Would set object_lock.", "plan": [{"setting": "object_lock"}], "checks": []}
    assert json.loads(translated(json.dumps(planned), names)) == planned
    refusal = {"msg": "object_lock: 'ON' is none of them; tls_only.", "checks": []}
    assert json.loads(translated(json.dumps(refusal), names))["msg"] == (
        "backup_bucket_object_lock: 'ON' is none of them; backup_bucket_tls_only."
    )
