#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance_mode
short_description: Turn an application's maintenance mode on or off, and see it from outside
description:
  - The flag is the moment O(until) which the mode is on. Whoever reads it compares that with its own clock, so the mode
    ends by itself, also when everything that could turn it off was killed.
  - Each open change notes in its document until when it needs the mode. The flag follows these notes, so that of two
    changes at once the one that ends first does not turn off the mode of the other. V(off) gives back what this change
    noted; a mode that somebody else turned on stays.
  - Then O(probe_url) is looked at from here until it shows the mode, at most for O(probe_wait_s). On is a 503 with the
    header C(Retry-After) and O(probe_text), off is a 200 without that text. Without O(probe_url), and where no answer
    comes, the item is V(unknown).
options:
  state:
    description:
      - Whether the mode is to be on or off. V(on) ends with the run at the latest. V(kept_on) is for an emergency. It
        stays until O(until) where the run ends without its fix, and holds other changes up so long;
        playbooks/change_close.yml ends it before.
    type: str
    required: true
    choices: ["on", "kept_on", "off"]
  until:
    description:
      - When the mode ends by itself, with its time zone; within the next 24 hours. Needed unless O(state=off).
    type: str
  backend:
    description:
      - V(nginx) keeps flag files in O(nginx_flag_dir), V(vercel) an item of Vercel's Global Config, V(sql) the one row
        of a table of the application's. V(webhook) is a C(POST) of C(event) (V(maintenance_mode)), C(on) and C(until)
        with the header C(Idempotency-Key), each time and maybe twice; it cannot be read. V(none) where the inventory
        decided to have no such mode.
      - docs/howto/maintenance_mode.md has the reading side of each.
    type: str
    required: true
    choices: [nginx, vercel, sql, webhook, none]
  nginx_flag_dir:
    description:
      - Folder of this machine in which nginx looks for flag files. It has to be there.
    type: path
  vercel_config_id:
    description:
      - Id of the Global Config, as V(ecfg_…).
    type: str
  vercel_token:
    description:
      - Access token. Keep it in Ansible Vault.
    type: str
  vercel_team_id:
    description:
      - Id of the team whose config it is.
    type: str
  vercel_item:
    description:
      - Key of the item; V(maintenance) where it is not given. Its value is C(on) and C(until).
    type: str
  vercel_path:
    description:
      - V(edge-config) is the name of the API before July 2026; V(global-config) where it is not given.
    type: str
    choices: [global-config, edge-config]
  vercel_url:
    description:
      - Address of the API; V(https://api.vercel.com) where it is not given.
    type: str
  sql_table:
    description:
      - Table with the one row, as C(schema.table). The user needs SELECT and UPDATE on it.
    type: str
  sql_column:
    description:
      - Its column, of type C(timestamp with time zone); V(until) where it is not given. Off is a moment that
        has passed.
    type: str
  webhook_url:
    description:
      - Address that is told. It is kept secret.
      - A user and a password in it (C(https://user:password@host/path)) are sent as basic auth.
    type: str
  webhook_token:
    description:
      - Sent as a bearer token. Keep it in Ansible Vault.
    type: str
  probe_url:
    description:
      - Page that shows the mode, as users get it. A redirect is not followed. It is printed and kept, so it holds no
        user and no query.
    type: str
  probe_text:
    description:
      - Text that stands on the maintenance page and on no other.
    type: str
    default: ""
  probe_wait_s:
    description:
      - Longest time until the page shows the mode, in seconds.
    type: int
    default: 60
extends_documentation_fragment:
  - runbook_change
  - runbook_postgresql
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says what would be written. Nothing is written or noted, and the page is not looked at.
  diff_mode:
    support: full
    description: Shows the same sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Turn maintenance mode on until the window ends
  maintenance_mode:
    state: "on"
    until: "2026-11-29T04:00:00Z"
    item: mode_on
    backend: nginx
    nginx_flag_dir: /var/lib/runbook/maintenance
    probe_url: https://app.example.com/
    probe_text: back soon
    state_bucket: runbook-state
    state_region: eu-central-1

- name: Turn it off, and see that it is
  maintenance_mode:
    state: "off"
    item: mode_off
    backend: vercel
    vercel_config_id: ecfg_1a2b3c
    vercel_token: "{{ vercel_token }}"
    vercel_team_id: team_1a2b3c
    probe_url: https://app.example.com/
    state_bucket: runbook-state
    state_region: eu-central-1
"""

RETURN = r"""
changed:
  description: Whether the flag was written, or would be.
  type: bool
  returned: always
msg:
  description: What was done, and what was seen of it, in one sentence.
  type: str
  returned: always
status:
  description:
    - V(ok) where it was seen, or is skipped; V(unknown) where nobody could see it; V(breach) where it was seen not to
      be so, or could not be done.
  type: str
  returned: always
backend:
  description: Where the flag lies.
  type: str
  returned: success
until:
  description: When the mode ends by itself; null where it is off, or where nothing was done.
  type: str
  returned: success
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change import http_probe
from ansible.module_utils.runbook.drivers.change import maintenance_mode as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.change import backend, closing
from ansible.module_utils.runbook.rules.change import maintenance_mode as rules
from ansible.module_utils.runbook.rules.change.change import check_until, key
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.http.api_client import Answer


def core(context: Context) -> dict[str, Any]:
    """Note until when this change needs the mode, let the flag follow, and look at it from outside."""
    params = context.params
    context.require_bounds({"probe_wait_s": (1, 600), "timeout_s": (1, 600)})
    backend.check_options(params, rules.BACKENDS)
    if params["probe_url"]:
        check_address("probe_url", params["probe_url"])
    until = None
    if params["state"] != "off":
        until = check_until(moment.read("until", params["until"]), datetime.now(UTC))
    changes = Changes.from_params(params, context.run, is_end=closing.is_end("maintenance_mode", params))
    done = changes.conduct(params["item"], lambda: _switch(context, changes, until), blocks=params["blocks"])
    facts = {"backend": params["backend"], "until": None} | done.facts
    if context.diff:
        facts["diff"] = {"prepared": as_lines([done.msg])}
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **facts)


def _switch(context: Context, changes: Changes, until: datetime | None) -> Done:
    """Turn the mode on until then, or give back what this change noted."""
    params, run = context.params, context.run
    current = changes.require_current()
    if params["backend"] == backend.NONE:
        if current is not None:
            current.require_place("mode", backend.NONE)
        return Done("Skipped: the inventory decided to have no maintenance mode (backend none).", backend.SKIPPED)
    table = parse_qualified(params["sql_table"], option="sql_table") if params["sql_table"] else None
    with ExitStack() as closing:
        mode = driver.from_params(params, run, key(changes.id), table, closing)
        noted = {"backend": params["backend"], "where": mode.where}
        if current is not None:
            current.require_place("mode", **noted)

        def wanted() -> datetime | None:
            found = changes.all()
            others = [each.change for each in found if each.change.id != changes.id and not each.is_abandoned]
            # By this machine's clock, by which this change's own end was judged too.
            end = rules.furthest(others, noted, datetime.now(UTC))
            return max(filter(None, (until, end)), default=None)

        if until is None and current is not None and "mode" not in current.opened:
            done = Done("This change has turned no maintenance mode on.")
            return done if context.check_mode else _seen(params, done)
        if until is None and current is not None and changes.id == run.id:
            current.require_resolved()
        if context.check_mode:
            return driver.follow(mode, wanted, check_mode=True)
        if until is not None:
            # Before the flag: a run that is killed here leaves word of it.
            kept = {"kept": True} if params["state"] == "kept_on" else {}
            changes.opened("mode", noted | {"until": until.isoformat()} | kept)
        try:
            done = driver.follow(mode, wanted)
        except RunbookError as error:
            ends = current.opened.get("mode", {}).get("until") if current is not None and until is None else None
            if not ends:
                raise
            said = f"{error.message} Users see the maintenance page until {to_second(ends)} unless it is turned off."
            raise RunbookError(said, **error.context) from None
        if until is None:
            changes.opened("mode", None)
    return _seen(params, done)


def _seen(params: dict[str, Any], done: Done) -> Done:
    """Look from outside whether it is so."""
    url, is_on = params["probe_url"], bool(done.facts.get("until"))
    if not url:
        return replace(done, msg=f"{done.msg} Nobody looked from outside: set probe_url.", status=Status.UNKNOWN)

    def lacks(answer: Answer) -> str:
        body = answer.body.decode(errors="replace")
        text, retry_after = params["probe_text"], answer.headers.get("retry-after")
        return rules.lacks(answer.status, retry_after, body, is_on=is_on, text=text)

    seen = http_probe.wait_for(http_probe.client(url), lacks, wait_s=params["probe_wait_s"])
    if not seen.lacks:
        return replace(done, msg=f"{done.msg} {url} shows it.", proof=f"{url} {'503, Retry-After' if is_on else '200'}")
    if not seen.answered:
        said = f"{done.msg} Nobody could see it from outside within {params['probe_wait_s']} s: {seen.lacks}."
        return replace(done, msg=said, status=Status.UNKNOWN)
    raise RunbookError(
        f"{done.msg} But {url} {seen.lacks}, after {params['probe_wait_s']} s; see that it reads this flag "
        "(docs/howto/maintenance_mode.md).",
        **done.facts,
    )


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "state": {"type": "str", "required": True, "choices": ["on", "kept_on", "off"]},
        "until": {"type": "str"},
        "backend": {"type": "str", "required": True, "choices": [*rules.BACKENDS, backend.NONE]},
        "nginx_flag_dir": {"type": "path"},
        "vercel_config_id": {"type": "str"},
        "vercel_token": {"type": "str", "no_log": True},
        "vercel_team_id": {"type": "str"},
        "vercel_item": {"type": "str"},
        "vercel_path": {"type": "str", "choices": ["global-config", "edge-config"]},
        "vercel_url": {"type": "str"},
        "sql_table": {"type": "str"},
        "sql_column": {"type": "str"},
        "webhook_url": {"type": "str", "no_log": True},
        "webhook_token": {"type": "str", "no_log": True},
        "probe_url": {"type": "str"},
        "probe_text": {"type": "str", "default": ""},
        "probe_wait_s": {"type": "int", "default": 60},
    }
    run_module(
        core,
        name="maintenance_mode",
        argument_spec=postgres.argument_spec() | argument_spec() | spec,
        required_if=[("state", "on", ["until"]), ("state", "kept_on", ["until"])],
    )


if __name__ == "__main__":
    main()
