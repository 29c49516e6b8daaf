#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_env_restore
short_description: Make the environment variables of a Vercel project those of a snapshot
description:
  - Changes back what was changed since, makes again what was removed, and removes what was added, so that the set is
    that of O(snapshot).
  - What cannot be restored is named before anything is changed. The value of a C(sensitive) variable that was changed
    since is taken from O(values), if its fingerprint is that of then.
  - Variables that Vercel or an integration writes are left as they are, and so are those of a key that was rotated
    since O(snapshot) was taken.
  - Deployments keep the variables of their own time. M(vercel_redeploy) builds one with those that are there now.
  - Run again, also after it was killed, it does what is left to do. M(vercel_env_snapshot) takes snapshots; take one
    before.
options:
  snapshot:
    description:
      - Name of the snapshot. An empty one is refused with the names that there are.
    type: str
    default: ''
  values:
    description:
      - Values of sensitive variables by the variable's name, from Ansible Vault.
    type: dict
    default: {}
  snapshot_key:
    description:
      - The key with which the snapshot was sealed.
    type: str
    required: true
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The project must have passed
        M(vercel_preflight) in the same run.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Returns the plan. Changes nothing.
  diff_mode:
    support: full
    description: Shows a line for each variable, without values.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Go back to the variables of yesterday
  vercel_env_restore:
    snapshot: prj_1a2b3c4d5e-20261128T020000Z
    snapshot_key: "{{ vault_app_config_snapshot_key }}"
    values:
      OPENAI_API_KEY: "{{ vault_openai_api_key }}"
    environment: production
    project_id: prj_1a2b3c4d5e
    project_name: mental-scribe
    team_id: team_1a2b3c
    access_token: "{{ vercel_access_token }}"
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
changed:
  description: Whether variables were changed, or would be in check mode.
  type: bool
  returned: always
msg:
  description: What was done, or what cannot be restored and why, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it was refused, V(unknown) if Vercel or the state store did not say enough.
  type: str
  returned: always
snapshot:
  description: Name of the snapshot.
  type: str
  returned: success
rows:
  description:
    - What is done with each variable that is not as then, with C(name), C(targets), C(act) and C(why).
  type: list
  elements: dict
  returned: success
lacking:
  description: What cannot be restored.
  type: list
  elements: str
  returned: where there is something
refused:
  description: Variables that Vercel refused.
  type: list
  elements: str
  returned: where it refused some
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy import env_set
from ansible.module_utils.runbook.drivers.deploy.seal import Seal
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.deploy.vercel import argument_spec as shared_options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy import deployments, env, rollback
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        shared_options()
        | state_store.argument_spec()
        | {
            "snapshot": {"type": "str", "default": ""},
            "values": {"type": "dict", "default": {}, "no_log": True},
            "snapshot_key": {"type": "str", "required": True, "no_log": True},
            "environment": {"type": "str", "required": True},
        }
    )


def core(context: Context) -> dict[str, Any]:
    """Plan, then write."""
    params = context.params
    context.require_bounds({"timeout_s": (1, 600)})
    seal = Seal(params["snapshot_key"])
    api = Vercel.from_params(params, read_only=context.check_mode)
    permits.require(context.run, api.target, params["environment"])
    documents = Documents.from_params(params, context.run)
    project_id = params["project_id"]
    deployments.check_identity(api.project(), api.place, params["project_name"] or "")
    name = env.choose(documents.names(env.prefix(project_id)), params["snapshot"], project_id)
    found = documents.read(name).document
    snapshot = env.Snapshot.read(name, found.body if found else {}, project_id)
    keys = [documents.read(each).document for each in documents.names(rollback.rotations(project_id))]
    rotated = [rollback.Rotated.read(each.name, each.body) for each in keys if each is not None]
    now = env_set.read(api, lambda done, of: context.progress.update("values", done, of, "variables"))
    given = {str(each): str(value) for each, value in params["values"].items()}
    plan = env.plan(snapshot, snapshot.opened(seal.open), now, given, rotated)
    facts: dict[str, Any] = {
        "changed": not plan.is_empty,
        "snapshot": name.removeprefix(env.FOLDER),
        "rows": [dict(row) for row in plan.rows],
    }
    if context.diff and plan.rows:
        after = [f"{row['name']} ({row['targets']}): {row['act']}{', ' + row['why'] if row['why'] else ''}"
                 for row in plan.rows]  # fmt: skip
        facts["diff"] = {"before": "", "after": as_lines(after)}
    if not context.check_mode and not plan.is_empty:
        try:
            env_set.write(api, plan)
        except RunbookError as error:
            again = "Some may be written; run the same command again: it does what is left."
            raise RunbookError(f"{error.message} {again}", **(facts | error.context)) from None
    done = [len(plan.edited), len(plan.created), len(plan.deleted)]
    acts = zip(done, ("changed back", "made again", "removed"), strict=True)
    what = ", ".join(f"{count(number, 'variable')} {act}" for number, act in acts if number)
    left = sum(row["act"] == "kept" for row in plan.rows)
    kept = f" {count(left, 'variable')} left as it is, see rows." if left else ""
    if plan.is_empty:
        return facts | {"msg": f"The variables are those of snapshot {facts['snapshot']}.{kept}"}
    verb = "Would be" if context.check_mode else "Done"
    return facts | {"msg": f"{verb}: {what}, as in snapshot {facts['snapshot']}.{kept}"}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_env_restore", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
