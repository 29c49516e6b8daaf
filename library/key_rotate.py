#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_rotate
short_description: Let an application use new keys while the old ones stay valid
description:
  - For each key that is due, or named, or whose rotation is on its way, makes a new key, writes it to the variables of
    the project at Vercel, and deploys the live commit again. Then it sees by the fingerprints that the application
    shows that the new keys are in use, and compares its errors with those of before.
  - Where the application does not show the new keys, or there are more errors than chance explains, it goes back by
    itself. The domains lead to the deployment of before, with the old keys in it.
  - The old key is never touched. M(key_retire) ends it after the days of grace.
  - Each step looks what is there first, and is noted in the state store. After a kill at any moment the same run goes
    on, and one of the two keys that the application may have is valid all the time.
  - A value of a key exists in the process of this module only. It is in no argument, log or result.
options:
  names:
    description:
      - Keys that are to be rotated whether they are due or not. Empty is all that are due.
    type: list
    elements: str
    default: []
  grace_days:
    description:
      - Days for which the old key stays valid once the new one is proven, 0 to 90.
    type: int
    default: 7
  fingerprint_url:
    description:
      - Page of the application that has an object of JSON with the fingerprint of each variable that holds a key, by
        the variable's name. docs/howto/keys.md says how an application makes it.
    type: str
    required: true
  error_logs:
    description:
      - Where errors are counted, and when there are too many.
    type: dict
    required: true
    suboptions:
      backend:
        description: &as_error_logs
          - As for M(change_error_logs).
        type: str
        required: true
        choices: [prometheus, loki, supabase, file, none]
      span_s:
        description:
          - How far it looks back before the keys were written, in seconds, 60 to 86,400.
        type: int
        default: 1800
      min_span_s:
        description:
          - For how long it watches the new deployment, in seconds, 0 to 3,600.
        type: int
        default: 300
      max_ratio: {description: *as_error_logs, type: float, default: 2.0}
      min_errors: {description: *as_error_logs, type: int, default: 5}
      prometheus_url: {description: *as_error_logs, type: str}
      prometheus_token: {description: *as_error_logs, type: str}
      prometheus_user: {description: *as_error_logs, type: str}
      prometheus_password: {description: *as_error_logs, type: str}
      prometheus_query: {description: *as_error_logs, type: str}
      loki_url: {description: *as_error_logs, type: str}
      loki_token: {description: *as_error_logs, type: str}
      loki_user: {description: *as_error_logs, type: str}
      loki_password: {description: *as_error_logs, type: str}
      loki_tenant: {description: *as_error_logs, type: str}
      loki_query: {description: *as_error_logs, type: str}
      loki_lines_query: {description: *as_error_logs, type: str}
      project_ref: {description: *as_error_logs, type: str}
      access_token: {description: *as_error_logs, type: str}
      api_url: {description: *as_error_logs, type: str}
      supabase_sql: {description: *as_error_logs, type: str}
      file_path: {description: *as_error_logs, type: path}
      file_pattern: {description: *as_error_logs, type: str}
      ca_cert: {description: *as_error_logs, type: path}
      timeout_s: {description: *as_error_logs, type: int, default: 30}
  fingerprint_wait_s:
    description:
      - How long the page may show the old deployment after the domains were moved, in seconds, 1 to 3,600.
    type: int
    default: 300
  poll_s:
    description:
      - Seconds between two looks at a build or at the application, 1 to 60.
    type: int
    default: 5
  deadline_s:
    description:
      - Longest time for all of it, in seconds, 60 to 14,400. Going back has 300 s of its own.
    type: int
    default: 3600
extends_documentation_fragment:
  - runbook_keys
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says which keys would be rotated, and refuses what the real run would refuse. Nothing is written.
  diff_mode:
    support: full
    description: Names each key and its variables.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Rotate what is due
  key_rotate:
    keys:
      - name: server
        kind: supabase_secret
        env: [{name: SUPABASE_SECRET_KEY, targets: [production, preview]}]
      - name: uploads
        kind: s3_access_key
        user: mental-scribe-uploads
        env: [{name: S3_ACCESS_KEY_ID, part: id}, {name: S3_SECRET_ACCESS_KEY, part: secret}]
      - name: database
        kind: database_role
        roles: [mental_scribe_app_a, mental_scribe_app_b]
        url: postgresql://db.example.com:5432/mental_scribe?sslmode=verify-full
        env: [{name: DATABASE_URL, part: url}]
    fingerprint_url: https://app.example.com/api/keys
    error_logs:
      backend: prometheus
      prometheus_url: http://prometheus.example.com:9090
      prometheus_query: sum(increase(http_requests_total{code=~"5.."}[$__range])) or vector(0)
    vercel:
      project_id: prj_1a2b3c4d5e
      team_id: team_1a2b3c
      access_token: "{{ vercel_access_token }}"
    supabase:
      project_ref: abcdefghijklmnopqrst
      access_token: "{{ supabase_access_token }}"
    aws:
      account_id: "123456789012"
      profile: mental-scribe-keys
    database:
      login_host: db.example.com
      login_user: key_admin
      login_password: "{{ vault_key_admin_password }}"
      login_db: mental_scribe
      ssl_mode: verify-full
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether a key was rotated, or would be.
  type: bool
  returned: always
msg:
  description: What was rotated, or what went wrong and how far it is, in one sentence.
  type: str
  returned: always
status:
  description:
    - V(ok); V(breach) if it went back to the old keys; V(unknown) if nobody can say whether the new ones do well, so
      that they are not proven yet.
  type: str
  returned: always
checks:
  description: The proofs, C(fingerprints) and C(errors), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when something was proven, or was not
rotations:
  description:
    - Each key with C(name), C(kind), C(env_names), C(created_at), C(due_at) and C(age_days) of the one in use,
      C(max_age_days), C(phase) of its last rotation, C(deployment) that was built with the newest one, and
      C(retire_after), until when the old one is valid.
  type: list
  elements: dict
  returned: success
follow_ups:
  description: What is left to be done by hand after it went back.
  type: list
  elements: str
  returned: when it went back
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.change import error_logs
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.keys import options
from ansible.module_utils.runbook.drivers.keys.rotations import Watch
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.change import error_logs as error_rules
from ansible.module_utils.runbook.rules.deploy import rollback
from ansible.module_utils.runbook.rules.keys import definition, rotation
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import some

BOUNDS = {"fingerprint_wait_s": (1, 3_600), "grace_days": (0, 90), "poll_s": (1, 60), "deadline_s": (60, 14_400)}
ERROR_BOUNDS = {
    "span_s": (60, 86_400), "min_span_s": (0, 3_600), "min_errors": (1, 1_000_000), "timeout_s": (1, 600),
}  # fmt: skip


def watch_of(context: Context) -> Watch:
    """How it is seen that the application does well with its new keys."""
    params, counted = context.params, context.params["error_logs"]
    replace(context, params=counted).require_bounds(ERROR_BOUNDS)
    page = ApiClient(
        service="The application", base_url=check_address("fingerprint_url", params["fingerprint_url"]), headers={},
        secrets={}, read_only=True, timeout_s=10, options=("fingerprint_url", ""),
    )  # fmt: skip
    rule, source = error_rules.check(counted), error_logs.from_params(counted)
    return Watch(page, source, rule, counted["span_s"], params["fingerprint_wait_s"])


def core(context: Context) -> dict[str, Any]:
    """Rotate what is wanted."""
    params = context.params
    context.require_bounds(BOUNDS)
    keys, watch = definition.parse(params["keys"]), watch_of(context)
    documents = Documents.from_params(params, context.run)
    application, project, services = options.application(
        params, documents, keys, context.hide, lambda what, s: context.progress.update(what, round(s), None, "s"),
        read_only=context.check_mode, deadline_s=params["deadline_s"], poll_s=params["poll_s"],
    )  # fmt: skip
    permits.require(context.run, project.target, documents.environment)
    wanted = rotation.wanted([application.state(key) for key in keys], params["names"])
    for service in dict.fromkeys(services[key.kind] for key in wanted):
        service.require(context.run, documents.environment)
    application.check(wanted)
    names = some([key.name for key in wanted])
    lines = [f"rotate {key.name} ({key.kind}) in {', '.join(key.env_names)}" for key in wanted]
    told: dict[str, Any] = {"changed": bool(wanted)} | ({"diff": {"prepared": as_lines(lines)}} if context.diff else {})

    def hold(deployment_id: str) -> None:
        documents.update(
            rollback.document_name(project.place.project_id),
            lambda found: rollback.holding(found.document.body if found.document else None, deployment_id),
        )

    checks = [] if context.check_mode else application.rotate(wanted, watch, params["grace_days"], hold)
    said = "No key is due." if not wanted else f"Would rotate {names}." if context.check_mode else f"Rotated {names}."
    not_ok = [check.msg for check in checks if check.status is not Status.OK]
    if not_ok:
        said = f"{names}: deployed, and not proven yet. {' '.join(not_ok)}"
    return context.conclude(
        checks or Status.OK, msg=said, rotations=[application.state(key).figures() for key in keys], **told
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    counted = error_logs.argument_spec() | {
        "span_s": {"type": "int", "default": 1800},
        "min_span_s": {"type": "int", "default": 300},
        "max_ratio": {"type": "float", "default": 2.0},
        "min_errors": {"type": "int", "default": 5},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }
    spec = {
        "names": {"type": "list", "elements": "str", "default": []},
        "grace_days": {"type": "int", "default": 7},
        "fingerprint_url": {"type": "str", "required": True},
        "fingerprint_wait_s": {"type": "int", "default": 300},
        "error_logs": {"type": "dict", "required": True, "options": counted},
        "poll_s": {"type": "int", "default": 5},
        "deadline_s": {"type": "int", "default": 3600},
    }
    run_module(core, name="key_rotate", argument_spec=options.argument_spec() | spec)


if __name__ == "__main__":
    main()
