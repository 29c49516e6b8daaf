#!/usr/bin/python
"""Module dr_drill_outage: declare the disaster of a drill, and make it in the sandbox."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_outage
short_description: Declare the outage of a disaster-recovery drill
description:
  - The time to recovery (RTO) is taken from this moment.
  - In the sandbox it injects the fault that M(dr_drill_begin) was asked for, makes the mistake or kills the drill's own
    server and takes its data folder away, and waits until the service is found gone.
  - Elsewhere nothing is broken.
options:
  write_s:
    description:
      - Seconds for which the clients write, at least, after the backup and before the outage.
    type: int
    default: 5
extends_documentation_fragment:
  - runbook_s3
  - runbook_drill
  - runbook_drill.own_login
  - runbook_drill.backups
attributes:
  check_mode:
    description: Does nothing, as no drill is started in check mode.
    support: full
  diff_mode:
    description: Nothing is shown.
    support: none
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make the sandbox's disaster
  dr_drill_outage:
    state_dir: /srv/runbook/drill
    environment: sandbox
    server: sandbox
    bucket: mental-scribe-backups
    endpoint_url: http://127.0.0.1:8333
    access_key: "{{ backup_access_key }}"
    secret_key: "{{ backup_secret_key }}"
    login_user: postgres
    login_password: "{{ db_login_password }}"
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) where the service still answered.
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import barman
from ansible.module_utils.runbook.drivers.drill import buckets, copies, drill, faults, folder, servers
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import pitr_setup
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.drill import scenarios
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.status import Status

#: Options whose value must lie between two bounds.
BOUNDS = {"write_s": (0, 3_600)}
#: The table that the sandbox's mistakes are made with.
TABLE = QualifiedName("public", "messages")
#: A disaster is noticed when this number of looks in a row found no service.
LOOKS, LOOK_EVERY_S = 3, 0.5
#: Seconds for which a service may still answer after it.
MOST_S = 60.0
SWITCH_S = 60.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        s3.argument_spec() | drill.argument_spec() | drill.own_login() | drill.backups()
        | {"write_s": {"type": "int", "default": 5}}
    )  # fmt: skip


def core(context: Context) -> dict[str, Any]:
    """Declare the disaster; in the sandbox, make it."""
    context.require_bounds(BOUNDS)
    permits.require_environment(context.run, context.params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(context.params) as current:
        if current.state.is_sandbox:
            return make_outage(context, current)
        at = folder.now()
        current.keep(replace(current.state, outage_at=at))
        current.phase("detect", at, msg="The outage was declared; nothing was broken.")
        return current.told(f"Outage declared: {current.state.disaster.title}.")


def make_outage(context: Context, current: drill.Drill) -> dict[str, Any]:
    """Break what the drill made for itself, and see that its service is gone."""
    params, clients, scenario = context.params, current.folder.clients, current.state.disaster
    written = len(clients.acknowledged())
    # Some of what the clients write is newer than every backup.
    clients.wait_for(0, after=written, deadline_s=30)
    time.sleep(params["write_s"])
    with servers.connect(servers.primary(current.state, params)) as session:
        live = replace(current.state.live, archive_delay_s=servers.archive_delay_s(session))
        current.keep(replace(current.state, live=live))
        inject(context, current, session)
        if not scenario.kills:
            before = session.query("SELECT clock_timestamp() AS at")[0]["at"]
            for statement in faults.mistakes(current.state.scenario, postgres.table(TABLE)):
                session.execute(statement)
            current.keep(replace(current.state, mistake_at=before))
            clients.wait_for(0, after=len(clients.acknowledged()), deadline_s=30)
            time.sleep(params["write_s"])
    if scenario.replica:
        own, replica = (buckets.own(params, name) for name in buckets.names(current.state))
        buckets.copy(own, replica)
    at = folder.now()
    current.keep(replace(current.state, outage_at=at))
    made = current.state.primary
    if scenario.kills and made is not None:
        cluster = Cluster(Path(made.bindir), current.folder.path / "primary" / "data", made.port)
        admin = servers.primary(current.state, params, "postgres")
        servers.kill(cluster, admin, current.folder.path / "lost")
    if scenario.replica:
        buckets.remove(own)
        current.keep(replace(current.state, is_replica=True))
    wait_until_gone(servers.primary(current.state, params))
    # Nobody writes to what is broken any more.
    clients.direct(None, 0)
    current.phase("detect", at, msg=f"{LOOKS} looks in a row found no service.")
    after_s = (folder.now() - at).total_seconds()
    return current.told(f"Disaster: {scenario.title}; noticed after {after_s:.1f} s.")


def wait_until_gone(service: postgres.Target) -> None:
    """Look at the service as a monitor does, until it is found gone.

    :raises RunbookError: it still answers
    """
    question, deadline, looks = faults.healthy(postgres.table(TABLE)), time.monotonic() + MOST_S, 0
    while looks < LOOKS:
        looks = 0 if servers.answers(service, question) else looks + 1
        if time.monotonic() > deadline:
            raise RunbookError(
                f"The disaster was made, and the service still answers after {MOST_S:.0f} s.", status=Status.UNKNOWN
            )
        time.sleep(LOOK_EVERY_S)


def inject(context: Context, current: drill.Drill, session: postgres.Session) -> None:
    """Inject the fault that was asked for, and what the scenario says of the newest backup."""
    state = current.state
    fault = state.injected or ("missing_object" if state.disaster.newest_bad else None)
    if fault is None:
        return
    if fault == "older_schema":
        session.execute(faults.migration(postgres.table(TABLE)))
        current.keep(replace(state, live=replace(state.live, columns=tuple(copies.columns(session)))))
        return
    store = s3.Store.from_params(buckets.place(state, context.params))
    if "dump" in state.ways:
        damage_dump(store, manifests.database_folder(context.params["prefix"], state.database), fault)
    if "pitr" in state.ways:
        engine = drill.engine(
            current, context.params, prefix=pitr_setup.check_prefix(context.params["pitr_prefix"]),
            server=pitr_setup.check_name(context.params["server"], "server"), heard=passed_on(context.warn),
        )  # fmt: skip
        damage_base_backup(engine, session, fault)


def damage_dump(store: s3.Store, base: str, fault: str) -> None:
    """Damage the newest logical backup below a folder."""
    newest = f"{base}{store.folders(base)[-1]}/"
    largest = max((each for each in store.entries(newest) if "/data-" in each.key), key=lambda entry: entry.size_bytes)
    if fault == "flipped_byte":
        faults.flip_byte(store, largest.key)
    elif fault == "missing_object":
        store.delete([largest])
    elif fault == "truncated_object":
        faults.truncate(store, largest.key)
    elif fault == "wrong_database":
        key = newest + manifests.MANIFEST_NAME
        found = manifests.parse(store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES), where=key)
        other = str(int(found.source.system_identifier) + 1)
        store.put(key, replace(found, source=replace(found.source, system_identifier=other)).to_bytes())


def damage_base_backup(engine: barman.Engine, session: postgres.Session, fault: str) -> None:
    """Damage the newest base backup, or the WAL behind it."""
    store = engine.store
    newest = max(str(each["backup_id"]) for each in engine.backups())
    tar = next(each for each in store.entries(f"{engine.root}base/{newest}/") if "data.tar" in each.key)
    if fault == "flipped_byte":
        faults.flip_row(store, tar.key, faults.row_place(session, postgres.table(TABLE)))
    elif fault == "missing_object":
        store.delete([tar])
    elif fault == "truncated_wal":
        known = {key for key, _, _ in engine.wal_objects()}
        for _ in range(2):
            servers.archive_now(session, deadline_s=SWITCH_S)
        fresh = sorted(key for key, _, _ in engine.wal_objects() if key not in known)
        faults.truncate(store, fresh[0])
    elif fault == "wrong_database":
        other = str(int(servers.identity(session)) + 1)
        marked = {"system_identifier": other, "engine": "barman-cloud"}
        store.put(f"{engine.root}{barman.IDENTITY}", json.dumps(marked).encode())


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_outage", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
