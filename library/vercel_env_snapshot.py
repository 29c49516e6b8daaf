#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_env_snapshot
short_description: Keep the environment variables of a Vercel project as a whole
description:
  - Writes a document into the state store with each variable's name, type, targets and comment, and with its value
    sealed by O(snapshot_key). The value of a C(sensitive) variable is in none, as Vercel gives it to nobody.
  - Where the newest snapshot says the same, none is written.
  - M(vercel_env_restore) makes the set of a snapshot again.
options:
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The project must have passed
        M(vercel_preflight) in the same run.
    type: str
    required: true
  snapshot_key:
    description:
      - 32 bytes in base64 that seal the values. Keep it in Ansible Vault. Another key does not open older snapshots.
    type: str
    required: true
  reason:
    description:
      - Why it is taken, in a few words.
    type: str
    default: ''
  keep:
    description:
      - How many snapshots of the project are kept, the newest, 1 to 1000.
    type: int
    default: 50
extends_documentation_fragment:
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Reads, and writes nothing.
  diff_mode:
    support: none
    description: Changes nothing but the state store.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Keep what is there
  vercel_env_snapshot:
    environment: production
    snapshot_key: "{{ vault_app_config_snapshot_key }}"
    project_id: prj_1a2b3c4d5e
    project_name: mental-scribe
    team_id: team_1a2b3c
    access_token: "{{ vercel_access_token }}"
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
changed:
  description: Whether a snapshot was written, or would be in check mode.
  type: bool
  returned: always
msg:
  description: Which snapshot there is, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it was refused, V(unknown) if Vercel or the state store did not say enough.
  type: str
  returned: always
snapshot:
  description: Its name, for M(vercel_env_restore).
  type: str
  returned: success
variables:
  description: How many variables are in it.
  type: int
  returned: success
without_value:
  description: Names of those whose value is not in it.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy import env_set
from ansible.module_utils.runbook.drivers.deploy.seal import Seal
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.deploy.vercel import argument_spec as shared_options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy import deployments, env
from ansible.module_utils.runbook.rules.words import count


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        shared_options()
        | state_store.argument_spec()
        | {
            "environment": {"type": "str", "required": True},
            "snapshot_key": {"type": "str", "required": True, "no_log": True},
            "reason": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 50},
        }
    )


def core(context: Context) -> dict[str, Any]:
    """Read the set, and keep it unless it is kept already."""
    params = context.params
    context.require_bounds({"keep": (1, 1000), "timeout_s": (1, 600)})
    seal = Seal(params["snapshot_key"])
    # Nothing is written to the project.
    api = Vercel.from_params(params, read_only=True)
    permits.require(context.run, api.target, params["environment"])
    documents = Documents.from_params(params, context.run)
    deployments.check_identity(api.project(), api.place, params["project_name"] or "")
    project_id = params["project_id"]
    now = env_set.read(api, lambda done, of: context.progress.update("values", done, of, "variables"))
    facts = {"variables": len(now), "without_value": sorted({each.name for each in now if each.value is None})}
    names = documents.names(env.prefix(project_id))
    if names and _is_kept(documents, seal, names[-1], project_id, now):
        name = names[-1]
        said = f"Snapshot {name.removeprefix(env.FOLDER)} has {count(len(now), 'variable')} as they are."
        return facts | {"changed": False, "snapshot": name.removeprefix(env.FOLDER), "msg": said}
    at = datetime.now(UTC)
    name = env.document_name(project_id, at)
    sealed = [
        (each, "" if each.value is None else seal.close(each.value, env.label(each.id, each.name, project_id)))
        for each in now
    ]
    documents.update(name, lambda _found: env.body(project_id, at, params["reason"], sealed))
    for old in names[: max(0, len(names) + 1 - params["keep"])]:
        documents.remove(old)
    verb = "Would keep" if context.check_mode else "Kept"
    said = f"{verb} {count(len(now), 'variable')} as snapshot {name.removeprefix(env.FOLDER)}."
    return facts | {"changed": True, "snapshot": name.removeprefix(env.FOLDER), "msg": said}


def _is_kept(documents: Documents, seal: Seal, name: str, project_id: str, now: list[env.Kept]) -> bool:
    """Whether a snapshot says the same; one that cannot be opened any more does not."""
    found = documents.read(name).document
    if found is None:
        return False
    try:
        then = env.Snapshot.read(name, found.body, project_id).opened(seal.open)
    except RunbookError:
        return False
    return env.same_set(then, now)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_env_snapshot", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
