#!/usr/bin/python
"""Module dr_drill_begin: refuse what a drill must not do, and make what it needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_begin
short_description: Begin a disaster-recovery drill
description:
  - Refuses what must be refused, and removes what a killed drill left. The other acts of a drill are
    M(dr_drill_outage), M(dr_drill_decide), a restore by M(pg_restore) or M(pg_pitr_restore), M(dr_drill_verify) or
    M(dr_drill_skip), M(dr_drill_tear_down) and M(dr_drill_judge).
  - Where O(environment) is V(sandbox), the drill gets a PostgreSQL of its own, filled like the sandbox's, with clients
    that write to it and a ledger of the commits that they were told of.
  - Elsewhere nothing is broken. That environment's backups are restored to a server that is proven to be another one.
options:
  host:
    description:
      - The inventory host that the drill is about.
    type: str
    required: true
  scenario:
    description:
      - The disaster. V(database_lost), server and data are gone. V(table_dropped), by mistake.
        V(corruption_noticed_late), rows were overwritten a while ago. V(region_lost), the backups are read from the
        bucket in the second region. V(newest_backup_bad), the one before has to do.
    type: str
    default: database_lost
    choices: [database_lost, table_dropped, corruption_noticed_late, region_lost, newest_backup_bad]
  way:
    description:
      - What is restored, a logical backup (V(dump)), a base backup with WAL (V(pitr)), or what gives back most.
    type: str
    default: best
    choices: [dump, pitr, best]
  inject:
    description:
      - A fault to inject, in the sandbox alone, which the drill has to find. V(flipped_byte) in a table's data.
        V(missing_object) and V(truncated_object) of a backup. V(truncated_wal). V(wrong_database), another cluster's
        backup. V(older_schema), the backup is from before a migration.
    type: str
    choices: [flipped_byte, missing_object, truncated_object, truncated_wal, wrong_database, older_schema]
  rto_s:
    description:
      - Recovery time objective, in seconds.
    type: int
    default: 14400
  rpo_s:
    description:
      - Recovery point objective, in seconds.
    type: int
    default: 3600
  announcement:
    description:
      - That people were told, C(announced_at) as 2026-01-31 and C(announced_by).
    type: dict
    default: {}
  announce_days:
    description:
      - How many days before the drill people have to be told.
    type: int
    default: 0
  system_identifier:
    description:
      - The live cluster, which the backups must be of and the target must not be. Not asked for in the sandbox.
    type: str
    default: ''
  restore_path:
    description:
      - Folder in which M(pg_pitr_restore) restores. C(restore) below O(state_dir) if unset.
    type: path
  scale:
    description:
      - Size of the sandbox's database, as of M(sandbox_database).
    type: float
    default: 0.2
  clients:
    description:
      - Clients that write in the sandbox.
    type: int
    default: 4
  bindir:
    description:
      - Folder of PostgreSQL's server programs. Without it, they are looked for.
    type: path
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_drill
  - runbook_drill.target
attributes:
  check_mode:
    description: Refuses what it must, and says what would be done.
    support: full
  diff_mode:
    description: Shows the sentence of what was done.
    support: full
notes:
  - O(login_host) and the others name the live database. In the sandbox the drill's own server gets the same user and
    password.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Begin a drill in the sandbox
  dr_drill_begin:
    state_dir: /srv/runbook/drill
    environment: sandbox
    host: sandbox
    scenario: table_dropped
    bucket: mental-scribe-backups
    endpoint_url: http://127.0.0.1:8333
    access_key: "{{ backup_access_key }}"
    secret_key: "{{ backup_secret_key }}"
    login_host: 127.0.0.1
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
"""

RETURN = r"""
msg:
  description: What was done or found, in one sentence.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: always
drill_id:
  description: Name of the drill, the UTC time of its beginning.
  type: str
  returned: except in check mode
outage_is_real:
  description: Whether something is broken, as in the sandbox.
  type: bool
  returned: always
backups:
  description: How many backups have to be made before the outage.
  type: int
  returned: except in check mode
ways:
  description: The ways that are open.
  type: list
  elements: str
  returned: except in check mode
login_port:
  description: Port of the database that the drill is about, in the sandbox that of its own server.
  type: int
  returned: except in check mode
system_identifier:
  description: The cluster that the backups are of.
  type: str
  returned: except in check mode
bucket:
  description: The bucket in which they lie.
  type: str
  returned: except in check mode
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.drill import buckets, copies, drill, guard, servers
from ansible.module_utils.runbook.drivers.drill import folder as folders
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import find_bindir
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import identity
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup.swap import dated_name
from ansible.module_utils.runbook.rules.drill import faults, figures, lessons, scenarios
from ansible.module_utils.runbook.rules.drill.state import Contents, Destination, Live, Primary, State
from ansible.module_utils.runbook.rules.postgres import content_hash
from ansible.module_utils.runbook.rules.sandbox import demo_database
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from datetime import datetime

#: Options whose value must lie between two bounds.
BOUNDS = {
    "rto_s": (1, 31_536_000),
    "rpo_s": (0, 31_536_000),
    "announce_days": (0, 365),
    "clients": (1, 32),
}
#: The clients of a drill that nobody ends, end after this.
MOST_S = 3_600.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    own: dict[str, dict[str, Any]] = {
        "host": {"type": "str", "required": True},
        "scenario": {"type": "str", "default": "database_lost", "choices": list(scenarios.SCENARIOS)},
        "way": {"type": "str", "default": "best", "choices": [*scenarios.WAYS, "best"]},
        "inject": {"type": "str", "choices": list(faults.FAULTS)},
        "rto_s": {"type": "int", "default": 14400},
        "rpo_s": {"type": "int", "default": 3600},
        "announcement": {"type": "dict", "default": {}},
        "announce_days": {"type": "int", "default": 0},
        "system_identifier": {"type": "str", "default": ""},
        "restore_path": {"type": "path"},
        "scale": {"type": "float", "default": 0.2},
        "clients": {"type": "int", "default": 4},
        "bindir": {"type": "path"},
    }
    return postgres.argument_spec() | s3.argument_spec() | drill.argument_spec() | drill.target() | own


def core(context: Context) -> dict[str, Any]:
    """Begin a drill, or say what would be one."""
    params = context.params
    context.require_bounds(BOUNDS)
    folder = folders.Folder.of(params)
    if not params["login_db"] or not params["login_user"]:
        raise RunbookError("login_db and login_user: they are empty; name the database that the drill is about.")
    permits.require_environment(context.run, params["environment"])
    if context.check_mode:
        result = begin(context, folder)
    else:
        with folder.mine():
            result = begin(context, folder)
    if context.diff:
        result["diff"] = {"prepared": as_lines([str(result["msg"])])}
    return result


def begin(context: Context, folder: folders.Folder) -> dict[str, Any]:
    """Refuse what must be refused, clear what was left, and make what the drill needs."""
    params, at = context.params, folders.now()
    faults.check_request(
        environment=params["environment"], scenario=params["scenario"], way=params["way"], inject=params["inject"]
    )
    announced = scenarios.check_announcement(params["announcement"], min_days=params["announce_days"], now=at)
    left = folder.read()
    refuse_another(context, folder, left)
    state = requested(context, folder, at)
    for name, text in folder.lesson_texts():
        for lacking in lessons.owed(text, source=name, today=at.date()):
            context.warn(f"An earlier drill's lessons are not complete: {lacking}.")
    if not state.is_sandbox:
        state = refuse_production(context, state)
    title = state.disaster.title + (f", with {state.injected} injected" if state.injected else "")
    if context.check_mode:
        by = {"best": "the way that loses least", "dump": "a dump", "pitr": "point-in-time recovery"}[state.way]
        msg = f"Would drill: {title}; restored by {by}. {announced}"
        return {"changed": True, "msg": msg, "outage_is_real": state.is_sandbox}
    if left:
        context.warn(f"Drill {left.drill_id} was left unfinished; removed {drill.remove(folder, left, params)}.")
    begun = drill.Drill(folder, state)
    begun.keep(state)
    if state.is_sandbox:
        guard.leave(folder, state)
        try:
            make_sandbox(context, begun)
        except BaseException:
            drill.remove(folder, state, params)
            folder.note.unlink(missing_ok=True)
            raise
    state = begun.state
    return begun.told(
        f"Drill {state.drill_id} began: {title}. {announced}",
        outage_is_real=state.is_sandbox, backups=state.disaster.backups if state.is_sandbox else 0, ways=state.ways,
        login_port=state.primary.port if state.primary else params["login_port"],
        system_identifier=state.live.system_identifier, bucket=buckets.place(state, params)["bucket"],
    )  # fmt: skip


def refuse_another(context: Context, folder: folders.Folder, left: State | None) -> None:
    """See that nobody else is at work in the folder, and that nothing of somebody else's lies there."""
    if left and left.process and left.process != context.run.process and folders.may_live(left.process):
        raise RunbookError(
            f"state_dir: drill {left.drill_id} is under way in {folder.path} ({left.controller}); wait until it is "
            "through."
        )
    if folder.foreign():
        raise RunbookError(
            f"state_dir: {folder.path} holds {', '.join(folder.foreign())}, which no drill put there; name another one."
        )


def requested(context: Context, folder: folders.Folder, at: datetime) -> State:
    """The drill that the options ask for."""
    params = context.params
    return State(
        drill_id=manifests.backup_id(at), controller=context.run.controller or "", process=context.run.process or "",
        environment=params["environment"], host=params["host"], database=params["login_db"],
        scenario=params["scenario"], way=params["way"], injected=params["inject"],
        restore_path=str(Path(params["restore_path"] or folder.path / "restore").resolve()), started_at=at,
        objectives=figures.Objectives(params["rto_s"], params["rpo_s"]),
    )  # fmt: skip


def refuse_production(context: Context, state: State) -> State:
    """See that the target is not the live server, and empty; the state with what the live one told."""
    params = context.params
    pinned = params["system_identifier"]
    production = {pinned} if pinned else set()
    known = Live(pinned)
    named = postgres.Target.from_params(params)
    session: postgres.Session | None = None
    with contextlib.suppress(RunbookError):
        # It may be gone; then nothing is known of it but what is pinned.
        session = servers.connect(replace(named, system_identifier=None))
    if session is not None:
        with session:
            found, database = postgres.cluster_and_database(session)
            if pinned:
                identity.check(found, database, system_identifier=pinned, database=named.database)
            production.add(found)
            known = Live(
                pinned, tuple(copies.columns(session)), copies.sizes(session), servers.archive_delay_s(session)
            )
    state = replace(state, live=known)
    if state.way == "pitr":
        return state
    name = dated_name(state.database, "drill", state.drill_id)
    # Without its pin: who answers is compared here, with the live one too.
    with servers.connect(replace(servers.destination(state, params), system_identifier=None)) as session:
        scenarios.check_target(
            found=servers.identity(session), pinned=params["target"]["system_identifier"], production=production,
            database=name, databases={row["datname"] for row in session.query("SELECT datname FROM pg_database")},
        )  # fmt: skip
        drill.permit(context.run, state, session)
    return replace(state, destination=Destination(name))


def make_sandbox(context: Context, begun: drill.Drill) -> None:
    """The drill's own primary, buckets and clients."""
    params, folder, state = context.params, begun.folder, begun.state
    for name in buckets.names(state):
        store = buckets.own(params, name)
        buckets.make(store, state.environment)
        permits.grant(context.run, store.target)
    bindir = find_bindir(params["bindir"])
    cluster = servers.make_server(folder.path / "primary", bindir, params["login_password"])
    steps = demo_database.steps(scale=params["scale"], seed=1)

    def show(label: str, done: int, total: int) -> None:
        context.progress.update(label, done, total, "steps", final=done == total)

    filled = servers.fill_primary(servers.own(params, cluster.port, "postgres"), state.database, steps, show)
    servers.begin_archiving(cluster)
    with servers.connect(filled) as session:
        drill.permit(context.run, state, session)
        # It is backed up under a lease, as a live database is.
        lease.acquire(session, context.run, purpose="dr_drill.yml")
        method = content_hash.method(session.server_version)
        live = Live(servers.identity(session), tuple(copies.columns(session)))
    # What a dump holds is compared with its manifest.
    tables = None if state.way == "dump" else Contents(method, copies.contents(filled, method))
    begun.keep(replace(state, live=live, primary=Primary(cluster.port, str(bindir)), contents=tables))
    folder.clients.start(filled, clients=params["clients"], most_s=MOST_S)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_begin", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
