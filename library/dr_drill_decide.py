#!/usr/bin/python
"""Module dr_drill_decide: the recovery point that gives back most, and a server for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_decide
short_description: Choose what a disaster-recovery drill restores
description:
  - Finds the backup that gives back most and that no attempt of this drill has failed with, sees that it has room, and
    provides for a server. M(pg_restore) or M(pg_pitr_restore) restores it.
  - It fails where no backup is good. The sentence says what is wrong with each.
options:
  replica:
    description:
      - The bucket in the second region, from which the scenario V(region_lost) restores. The sandbox makes one.
    type: dict
    default: {}
    suboptions:
      bucket:
        description: Its name.
        type: str
      region:
        description: Its region.
        type: str
      endpoint_url:
        description: Its address, where it is not AWS.
        type: str
      profile:
        description: Profile of the AWS configuration files.
        type: str
      access_key:
        description: Access key.
        type: str
      secret_key:
        description: Secret key.
        type: str
      session_token:
        description: Session token.
        type: str
      aws_ca_bundle:
        description: File with the certificates of its authorities.
        type: path
  free_disk_bytes:
    description:
      - Free bytes where the restore goes. Without it they are found out where that is this machine.
    type: int
extends_documentation_fragment:
  - runbook_s3
  - runbook_drill
  - runbook_drill.own_login
  - runbook_drill.target
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
- name: Find the best recovery point
  dr_drill_decide:
    state_dir: /srv/runbook/drill
    environment: staging
    server: staging
    bucket: mental-scribe-backups
    region: eu-central-1
    target:
      login_host: proof.internal
      login_user: runbook_restorer
      login_password: "{{ backup_proof_login_password }}"
      system_identifier: '7301234567890123456'
"""

RETURN = r"""
msg:
  description: The choice and what it costs, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where nothing can be restored.
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
outage_is_real:
  description: Whether something was broken, as in the sandbox.
  type: bool
  returned: except in check mode
restore_way:
  description: V(dump) or V(pitr).
  type: str
  returned: except in check mode
backup_id:
  description: The backup to restore.
  type: str
  returned: except in check mode
target_time:
  description: The moment to restore to; empty for all that there is.
  type: str
  returned: except in check mode
system_identifier:
  description: The cluster that the backup is of.
  type: str
  returned: except in check mode
bucket:
  description: The bucket in which it lies.
  type: str
  returned: except in check mode
is_replica:
  description: Whether that is the one in the second region.
  type: bool
  returned: except in check mode
restore_path:
  description: Where M(pg_pitr_restore) restores.
  type: str
  returned: except in check mode
login_host:
  description: Host of the server that a dump is restored to.
  type: str
  returned: where a dump is chosen
login_port:
  description: Its port.
  type: int
  returned: where a dump is chosen
target_system_identifier:
  description: Its cluster.
  type: str
  returned: where a dump is chosen
target_database:
  description: Name of the database that a dump is restored to.
  type: str
  returned: where a dump is chosen
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import restore as restore_driver
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.drivers.drill import buckets, drill, folder, servers
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.sandbox import demo_database as demo_driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import defects, pitr_setup, recovery, wal_archive
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import restore as restore_rules
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.drill import points, scenarios
from ansible.module_utils.runbook.rules.drill.state import Chosen, Destination, State, Survey, Unusable
from ansible.module_utils.runbook.rules.sandbox import demo_database

SWITCH_S = 60.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    own: dict[str, dict[str, Any]] = {
        "replica": {"type": "dict", "default": {}, "options": drill.another_bucket()},
        "free_disk_bytes": {"type": "int"},
    }
    common = s3.argument_spec() | drill.argument_spec()
    return common | drill.own_login() | drill.target() | drill.backups() | own


def core(context: Context) -> dict[str, Any]:
    """Choose, and provide for a server."""
    params = context.params
    permits.require_environment(context.run, params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(params) as current:
        begun, state = folder.now(), current.state
        if state.disaster.replica and not state.is_sandbox:
            if not params["replica"].get("bucket"):
                raise RunbookError(
                    "replica: it names no bucket, and region_lost restores from it; set backup_replica_*."
                )
            current.keep(replace(state, is_replica=True))
        try:
            choice = choose(context, current)
        except RunbookError as error:
            current.phase("decide", begun, error.status, error.message)
            current.keep(replace(current.state, failure=error.message))
            raise
        chosen = Chosen.of(choice, before=current.state.mistake_at, at=folder.now())
        current.keep(replace(current.state, chosen=chosen))
        current.phase("decide", begun, msg=choice.sentence())
        provision(context, current)
        current.keep(replace(current.state, chosen=replace(chosen, begun_at=folder.now())))
        return current.told(choice.sentence(), **facts(current.state, params))


def facts(state: State, params: dict[str, Any]) -> dict[str, Any]:
    """What the restore has to know."""
    chosen, place = state.chosen, buckets.place(state, params)
    if chosen is None:
        return {}
    known: dict[str, Any] = {
        "outage_is_real": state.is_sandbox, "restore_way": chosen.way, "backup_id": chosen.backup_id,
        "target_time": chosen.target_time.isoformat() if chosen.target_time else "",
        "system_identifier": state.live.system_identifier, "bucket": place["bucket"], "is_replica": state.is_replica,
        "restore_path": state.restore_path,
    }  # fmt: skip
    if chosen.way == "dump" and state.destination:
        server = servers.destination(state, params)
        known |= {
            "login_host": server.host, "login_port": server.port, "target_database": state.destination.database,
            "target_system_identifier": server.system_identifier or "",
        }  # fmt: skip
    return known


def choose(context: Context, current: drill.Drill) -> points.Choice:
    """The best recovery point; the state says what was found.

    :raises RunbookError: none is good, or there is no room for it
    """
    state = current.state
    before = state.mistake_at
    if before and state.chosen is None and state.way != "dump":
        with servers.connect(servers.primary(state, context.params, "postgres")) as session:
            servers.archive_now(session, deadline_s=SWITCH_S)
    candidates: list[points.Candidate] = []
    survey = Survey()
    if "dump" in state.ways:
        found, survey = dumps(context, state, survey)
        candidates += found
    if "pitr" in state.ways:
        found, survey = base_backups(context, current, survey)
        candidates += found
    unusable = tuple(map(Unusable.of, points.unusable(candidates, state.failed)))
    current.keep(replace(state, survey=replace(survey, unusable=unusable)))
    choice = points.choose(candidates, way=state.way, failed=state.failed)
    is_here = choice.chosen.way == "pitr" or state.is_sandbox
    free_bytes: int | None = context.params["free_disk_bytes"]
    if free_bytes is None and is_here:
        free_bytes = restored_server.RestoreDir(Path(state.restore_path)).free_bytes()
    points.check_room(
        needed_bytes=choice.chosen.size_bytes, free_bytes=free_bytes,
        where=state.restore_path if is_here else "the target",
    )  # fmt: skip
    return choice


def dumps(context: Context, state: State, survey: Survey) -> tuple[list[points.Candidate], Survey]:
    """Logical backups, newest first, up to the first that is good."""
    before = state.mistake_at
    store = s3.Store.from_params(buckets.place(state, context.params))
    base = bucket.home(store, manifests.database_folders(context.params["prefix"], state.database))
    found: list[points.Candidate] = []
    try:
        names = restore_rules.candidates(store.folders(base), backup=restore_rules.LATEST, before=before)
    except RunbookError as error:
        return [_nothing("dump", "none", error, store, base)], survey
    for name in names:
        problem, code, size, point, took_s = "", "", 0, manifests.started_at(name), None
        key = f"{base}{name}/{manifests.MANIFEST_NAME}"
        try:
            text = bucket.manifest_text(store, f"{base}{name}/")
            if text is None:
                problem, code = "its manifest is missing, so it is not complete", defects.MISSING
            else:
                manifest = manifests.parse(text, where=store.url(key))
                point, size = datetime.fromisoformat(manifest.source.snapshot_at), manifest.source.size_bytes
                took_s = manifest.duration_s
                if before and point >= before:
                    continue
                restore_rules.check_manifest(manifest, folder=f"{base}{name}/", database=state.database, backup_id=name)
                sizes = restore_driver.sizes(store, manifest)
                if manifest.source.system_identifier != state.live.system_identifier:
                    code = defects.OTHER_CLUSTER
                    problem = (
                        f"it is of cluster {manifest.source.system_identifier}, not of {state.live.system_identifier}"
                    )
                elif wrong := restore_rules.wrong_objects(manifest, sizes):
                    code = defects.MISSING if None in sizes.values() else defects.WRONG_SIZE
                    problem = "; ".join(wrong)
        except RunbookError as error:
            problem, code = error.message, error.code
        found.append(points.Candidate("dump", name, point, size, problem, (code,) if code else ()))
        if not problem and f"dump/{name}" not in state.failed:
            return found, replace(survey, backup_duration_s=took_s)
    return found, survey


def _nothing(way: scenarios.Way, name: str, why: RunbookError, store: s3.Store, root: str) -> points.Candidate:
    """A way that cannot be gone; it was never set up where nothing lies in its folder, deleted or not."""
    is_absent = not any(True for _ in store.versions(root))
    codes = (why.code,) if why.code else ()
    return points.Candidate(way, name, None, problem=why.message, codes=codes, is_absent=is_absent)


def base_backups(
    context: Context, current: drill.Drill, survey: Survey
) -> tuple[list[points.Candidate], Survey]:  # fmt: skip
    """Base backups with the moment to which WAL carries each."""
    params, before, cluster = context.params, current.state.mistake_at, current.state.live.system_identifier
    engine = drill.engine(
        current, params, prefix=pitr_setup.check_prefix(params["pitr_prefix"]),
        server=pitr_setup.check_name(params["server"], "server"), heard=passed_on(context.warn),
    )  # fmt: skip
    found: list[points.Candidate] = []
    try:
        marked = engine.identity()
        if marked is None:
            raise RunbookError(f"there is no archive {engine.store.url(engine.root)}")
        if marked != cluster:
            raise RunbookError(
                f"the archive is marked as that of cluster {marked}, not of {cluster}", code=defects.OTHER_CLUSTER
            )
        archive = wal_archive.gather(engine.backups(), engine.wal_objects(), engine.history)
        windows = [each for each in wal_archive.windows(archive) if before is None or each.start <= before]
        if not windows:
            # It says what can be restored.
            recovery.choose(archive, recovery.Target(time=before), timeline=None, backup_id=None)
    except RunbookError as error:
        return [_nothing("pitr", "archive", error, engine.store, engine.root)], replace(survey, archived=False)
    gaps: list[str] = []
    for window in windows:
        entries = list(engine.store.entries(f"{engine.root}base/{window.backup.backup_id}/"))
        names = [entry.key.rpartition("/")[2] for entry in entries]
        missing = [part for part in ("backup.info", "data.tar") if not any(name.startswith(part) for name in names)]
        problem = f"{' and '.join(missing)} of it missing in the bucket" if missing else ""
        # Compressed: what it takes when it is unpacked is not written down anywhere.
        size = sum(entry.size_bytes for entry in entries)
        reach = wal_archive.before_gap(archive, window) if window.gaps else window.end
        point = min(before, reach) if before else reach
        codes = (defects.MISSING,) if missing else ()
        name = window.backup.backup_id
        found.append(points.Candidate("pitr", name, point, size, problem, codes, is_cut=bool(window.gaps)))
        gaps += [f"{first} to {last}" if first != last else first for first, last in window.gaps]
    broken = ", ".join(dict.fromkeys(gaps))
    gap = f"The WAL is broken: {broken} missing; nothing after that can be restored." if gaps else ""
    return found, replace(survey, archived=True, gap=gap)


def provision(context: Context, current: drill.Drill) -> None:
    """Make the server that a dump goes to, and clear what a failed attempt left."""
    params, state, begun = context.params, current.state, folder.now()
    if state.chosen is not None and state.chosen.way == "pitr":
        restore_dir = restored_server.RestoreDir(Path(state.restore_path))
        if restore_dir.state():
            with restore_dir.mine():
                restore_dir.clear()
        return
    if not state.is_sandbox or state.primary is None:
        return
    if state.destination is not None:
        servers.drop_database(servers.destination(state, params), state.database)
        return
    target = current.folder.path / "target"
    made = servers.make_server(target, Path(state.primary.bindir), params["login_password"])
    with servers.connect(servers.own(params, made.port, "postgres")) as session:
        drill.permit(context.run, state, session)
        there = Destination(state.database, made.port, servers.identity(session))
        # A database's dump does not hold the roles that own what is in it.
        demo_driver.fill(session.connection, demo_database.roles())
    current.keep(replace(state, destination=there))
    current.phase("provision", begun, msg="A new server for the dump.")


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_decide", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
