#!/usr/bin/python
"""Module dr_drill: the steps of a disaster-recovery drill that no other module does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill
short_description: Rehearse a disaster, and measure how long recovery takes and what it loses
description:
  - A drill is made of these actions, in their order, and of restores by M(pg_restore) or M(pg_pitr) between V(decide)
    and V(verify). What each finds is kept in C(drill.json) below O(state_dir), so that the next drill finds what a
    killed one left, and removes it.
  - Where O(environment) is V(sandbox), the outage is real. The drill has a PostgreSQL of its own, with clients that
    write to it and a ledger of the commits that they were told of. It is killed, and its data folder taken away.
  - Elsewhere nothing is broken. That environment's backups are restored to a server that is proven to be another one.
  - The time to recovery (RTO) and the loss (RPO) are taken from the clock of the machine where this module runs.
options:
  action:
    description:
      - V(begin) refuses what must be refused, and removes what a killed drill left. In the sandbox it makes the
        primary, fills it, and starts the clients.
      - V(outage) declares the disaster; in the sandbox it makes it.
      - V(decide) finds the backup that gives back most, sees that it has room, and provides for a server.
      - V(verify) takes what was restored for good or bad, and lets the clients write to it.
      - V(tear_down) removes everything that the drill made.
      - V(judge) compares with the objectives, and writes the drill's document. It fails where the drill was not passed.
    type: str
    required: true
    choices: [begin, outage, decide, verify, tear_down, judge]
  state_dir:
    description:
      - Folder on this machine for the drill, its history and its lessons.
    type: path
    required: true
  environment:
    description:
      - What the inventory is.
    type: str
    required: true
  host:
    description:
      - The inventory host that the drill is about.
    type: str
    required: true
  scenario:
    description:
      - The disaster. V(database_lost), server and data are gone. V(table_dropped), by mistake.
        V(corruption_noticed_late), rows were overwritten a while ago. V(region_lost), the backups are read from
        O(replica). V(newest_backup_bad), the one before has to do.
    type: str
    default: database_lost
    choices: [database_lost, table_dropped, corruption_noticed_late, region_lost, newest_backup_bad]
  way:
    description:
      - What is restored, a logical backup (V(dump)), a base backup with WAL (V(pitr)), or what gives back most.
    type: str
    default: best
    choices: [dump, pitr, best]
  plant:
    description:
      - A fault to plant, in the sandbox alone, which the drill has to find. V(flipped_byte) in a table's data.
        V(missing_object) and V(truncated_object) of a backup. V(truncated_wal). V(wrong_database), another cluster's
        backup. V(older_schema), the backup is from before a migration.
    type: str
    choices: [flipped_byte, missing_object, truncated_object, truncated_wal, wrong_database, older_schema]
  self_test:
    description:
      - Whether V(judge) succeeds where the planted fault was found and named, and fails where it was not. Such a drill
        does not go into the history.
    type: bool
    default: false
  failure:
    description:
      - With V(verify), why the restore failed; with V(tear_down), why the drill ended early.
    type: str
    default: ''
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
  backup_interval_s:
    description:
      - Seconds from one logical backup to the next; 0 for none. It says what can be promised, together with what the
        newest good one took. A drill that looks at none promises nothing by them.
    type: int
    default: 86400
  archive_timeout_s:
    description:
      - PostgreSQL's C(archive_timeout) of the living server; 0 where WAL is not archived. It says what can be promised,
        where the drill found an archive from which something can be restored, together with what the archiver took for
        the last segment, where the server tells.
    type: int
    default: 60
  production_bytes:
    description:
      - Size of production's database, for which the time to restore is estimated.
    type: int
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
  prefix:
    description:
      - Folder in the bucket below which the logical backups lie.
    type: str
    default: ''
  pitr_prefix:
    description:
      - Folder in the bucket in which archives of WAL lie.
    type: str
    default: pitr
  server:
    description:
      - Name of the archive of WAL.
    type: str
    required: true
  system_identifier:
    description:
      - The living cluster, which the backups must be of and the target must not be. Not asked for in the sandbox.
    type: str
    default: ''
  replica:
    description:
      - The bucket in the second region, from which V(region_lost) restores. The sandbox makes one.
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
  target:
    description:
      - The server that logical backups are restored to, elsewhere than in the sandbox.
    type: dict
    default: {}
    suboptions:
      login_host:
        description: Its host.
        type: str
      login_port:
        description: Its port.
        type: int
        default: 5432
      login_user:
        description: A superuser, or a role with CREATEDB.
        type: str
      login_password:
        description: Its password.
        type: str
      ssl_mode:
        description: As O(ssl_mode).
        type: str
        default: verify-full
      ca_cert:
        description: As O(ca_cert).
        type: path
      system_identifier:
        description: The cluster that is meant.
        type: str
        default: ''
  files:
    description:
      - The bucket with the second copy of uploaded files, as M(s3_mirror) keeps it. The rows of the restored
        C(storage.objects) are compared with it. Without O(files.bucket) and O(files.buckets), or where the database has
        no such table, files are not part of the drill, and the document says so.
    type: dict
    default: {}
    suboptions:
      bucket:
        description: Its name.
        type: str
      buckets:
        description: The buckets that it holds copies of, by the C(bucket_id) of their rows.
        type: list
        elements: str
        default: []
      prefix:
        description: What is put before the bucket and the key there.
        type: str
        default: files/
      source_prefix:
        description: Only rows whose names begin with this have a copy.
        type: str
        default: ''
      show_keys:
        description: Whether files are named by their keys. Otherwise it is by a digest, because keys may name people.
        type: bool
        default: false
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
        description: Access key. Listing and reading is enough.
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
  restore_path:
    description:
      - Folder in which M(pg_pitr) restores. C(restore) below O(state_dir) if unset.
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
  write_s:
    description:
      - Seconds for which they write, at least, after the backup and before the outage.
    type: int
    default: 5
  smoke_queries:
    description:
      - As of M(pg_integrity).
    type: list
    elements: dict
    default: []
  free_disk_bytes:
    description:
      - Free bytes where the restore goes. Without it they are found out where that is this machine.
    type: int
  bindir:
    description:
      - Folder of PostgreSQL's server programs. Without it, they are looked for.
    type: path
  engine_bindir:
    description:
      - Folder of Barman's programs. Without it, that of the Python which runs this module.
    type: path
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
attributes:
  check_mode:
    description: V(begin) refuses what it must, and says what would be done. The others do nothing.
    support: full
  diff_mode:
    description: Shows the sentence of what was done.
    support: full
notes:
  - O(login_host) and the others name the living database. In the sandbox the drill's own server gets the same user and
    password.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make the sandbox's disaster
  dr_drill:
    action: outage
    state_dir: /srv/runbook/drill
    environment: sandbox
    host: sandbox
    server: sandbox
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
  description:
    - V(ok), V(breach), or V(unknown) where something could not be judged. That a copy is not good is no fault of
      V(verify), which says so in RV(recovered) and leaves the verdict to V(judge).
  type: str
  returned: always
drill_id:
  description: Name of the drill, the UTC time of its beginning.
  type: str
  returned: when a drill is under way
outage_is_real:
  description: Whether something is broken, as in the sandbox.
  type: bool
  returned: when a drill is under way
backups:
  description: How many backups have to be made before the outage.
  type: int
  returned: when a drill is under way
ways:
  description: The ways that are open.
  type: list
  elements: str
  returned: when a drill is under way
login_host:
  description: Host of the drill's server, the primary until V(decide), then the one to restore to.
  type: str
  returned: when a drill is under way
login_port:
  description: Its port.
  type: int
  returned: when a drill is under way
system_identifier:
  description: The cluster that the backups are of.
  type: str
  returned: when a drill is under way
target_system_identifier:
  description: The cluster that dumps are restored to; empty before V(decide) in the sandbox.
  type: str
  returned: when a drill is under way
bucket:
  description: The bucket that is used.
  type: str
  returned: when a drill is under way
is_replica:
  description: Whether it is the one in the second region.
  type: bool
  returned: when a drill is under way
prefix:
  description: Folder of the logical backups in it.
  type: str
  returned: when a drill is under way
restore_way:
  description: V(dump) or V(pitr), once it is decided.
  type: str
  returned: when a drill is under way
backup_id:
  description: The backup to restore, once it is decided.
  type: str
  returned: when a drill is under way
target_time:
  description: The moment to restore to; empty for all that there is.
  type: str
  returned: when a drill is under way
target_database:
  description: Name of the database that a dump is restored to.
  type: str
  returned: when a drill is under way
restore_path:
  description: Where M(pg_pitr) restores.
  type: str
  returned: when a drill is under way
recovered:
  description: Whether what was restored was found good.
  type: bool
  returned: when a drill is under way
drill:
  description: The drill's document.
  type: dict
  returned: V(judge)
document:
  description: The file that it was written to; null for a self-test.
  type: str
  returned: V(judge)
duration_s:
  description: Seconds of this action.
  type: float
  returned: always
executed_queries:
  description: Always empty; the statements of a drill are those of its own server.
  type: list
  elements: str
  returned: always
"""

import contextlib
import functools
import json
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, process, workspace
from ansible.module_utils.runbook.drivers.backup import mirror
from ansible.module_utils.runbook.drivers.backup import pitr as engine_driver
from ansible.module_utils.runbook.drivers.backup import restore as restore_driver
from ansible.module_utils.runbook.drivers.drill import drill as driver
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.sandbox import demo_database as demo_driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import identity, preflight
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import mirror as mirror_rules
from ansible.module_utils.runbook.rules.backup import pitr as pitr_rules
from ansible.module_utils.runbook.rules.backup import restore as restore_rules
from ansible.module_utils.runbook.rules.backup.backup_check import Check
from ansible.module_utils.runbook.rules.backup.swap import Marker, dated_name
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.drill import drill as judging
from ansible.module_utils.runbook.rules.drill import drill_plan as rules
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import content_hash
from ansible.module_utils.runbook.rules.postgres import integrity as integrity_rules
from ansible.module_utils.runbook.rules.sandbox import demo_database
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, all_ok, count, to_second

if TYPE_CHECKING:
    from collections.abc import Callable

#: Options whose value must lie between two bounds.
BOUNDS = {
    "rto_s": (1, 31_536_000),
    "rpo_s": (0, 31_536_000),
    "backup_interval_s": (0, 31_536_000),
    "archive_timeout_s": (0, 86_400),
    "announce_days": (0, 365),
    "clients": (1, 32),
    "write_s": (0, 3_600),
}
#: The table that the sandbox's mistakes are made with.
TABLE = QualifiedName("public", "messages")
#: A disaster is noticed when this number of looks in a row found no service, a second apart.
LOOKS, LOOK_EVERY_S = 3, 0.5
#: The clients of a drill that nobody ends, end after this.
MOST_S = 3_600.0
SWITCH_S = 60.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    place: dict[str, dict[str, Any]] = {
        name: {"type": "str"} for name in ("bucket", "region", "endpoint_url", "profile")
    }
    secret: dict[str, Any] = {"type": "str", "no_log": True}
    replica = place | {
        "access_key": {"type": "str", "no_log": False},
        "secret_key": secret,
        "session_token": secret,
        "aws_ca_bundle": {"type": "path"},
    }
    files = replica | {
        "buckets": {"type": "list", "elements": "str", "default": []},
        "prefix": {"type": "str", "default": "files/"},
        "source_prefix": {"type": "str", "default": ""},
        "show_keys": {"type": "bool", "default": False},
    }
    target: dict[str, dict[str, Any]] = {
        "login_host": {"type": "str"},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str"},
        "login_password": secret,
        "ssl_mode": {"type": "str", "default": "verify-full"},
        "ca_cert": {"type": "path"},
        "system_identifier": {"type": "str", "default": ""},
    }
    own: dict[str, dict[str, Any]] = {
        "action": {
            "type": "str", "required": True,
            "choices": ["begin", "outage", "decide", "verify", "tear_down", "judge"],
        },
        "state_dir": {"type": "path", "required": True},
        "environment": {"type": "str", "required": True},
        "host": {"type": "str", "required": True},
        "scenario": {"type": "str", "default": "database_lost", "choices": list(rules.SCENARIOS)},
        "way": {"type": "str", "default": "best", "choices": [*rules.WAYS, "best"]},
        "plant": {"type": "str", "choices": list(rules.PLANTS)},
        "self_test": {"type": "bool", "default": False},
        "failure": {"type": "str", "default": ""},
        "rto_s": {"type": "int", "default": 14400},
        "rpo_s": {"type": "int", "default": 3600},
        "backup_interval_s": {"type": "int", "default": 86400},
        "archive_timeout_s": {"type": "int", "default": 60},
        "production_bytes": {"type": "int"},
        "announcement": {"type": "dict", "default": {}},
        "announce_days": {"type": "int", "default": 0},
        "prefix": {"type": "str", "default": ""},
        "pitr_prefix": {"type": "str", "default": "pitr"},
        "server": {"type": "str", "required": True},
        "system_identifier": {"type": "str", "default": ""},
        "replica": {"type": "dict", "default": {}, "options": replica},
        "target": {"type": "dict", "default": {}, "options": target},
        "files": {"type": "dict", "default": {}, "options": files},
        "restore_path": {"type": "path"},
        "scale": {"type": "float", "default": 0.2},
        "clients": {"type": "int", "default": 4},
        "write_s": {"type": "int", "default": 5},
        "smoke_queries": {"type": "list", "elements": "dict", "default": []},
        "free_disk_bytes": {"type": "int"},
        "bindir": {"type": "path"},
        "engine_bindir": {"type": "path"},
    }  # fmt: skip
    return postgres.argument_spec() | s3.argument_spec() | own


def now() -> datetime:
    """The one clock of the drill."""
    return datetime.now(UTC)


class Drill:
    """One drill: its options, its folder, and the note of how far it is."""

    def __init__(self, context: Context, folder: driver.Folder) -> None:
        self.context = context
        self.params = context.params
        self.folder = folder
        self.state: dict[str, Any] = {}
        self.is_sandbox = self.params["environment"] == rules.SANDBOX
        self.restore_path = Path(self.params["restore_path"] or folder.path / "restore").resolve()

    # What all actions share.

    def resume(self) -> Drill:
        """Go on with the drill that was begun.

        :raises RunbookError: none was
        """
        self.state = self.folder.read()
        if not self.state:
            raise RunbookError(f"state_dir: no drill was begun in {self.folder.path}; run the playbook dr_drill.yml.")
        return self

    @property
    def scenario(self) -> rules.Scenario:
        """The disaster."""
        return rules.SCENARIOS[self.state["scenario"]]

    @property
    def database(self) -> str:
        """The database that the drill is about."""
        return str(self.params["login_db"])

    def login(self, port: int, database: str) -> postgres.Target:
        """A server of the drill's own on this machine, with the user and password of the living one."""
        user, password = self.params["login_user"], self.params["login_password"]
        return postgres.Target("127.0.0.1", port, database, user, password)

    def living(self) -> postgres.Target:
        """The server that the drill is about: in the sandbox the drill's own primary."""
        if self.is_sandbox:
            return self.login(self.state["port"], self.database)
        return postgres.Target.from_params(self.params)

    def target_identifier(self) -> str:
        """The cluster that dumps are restored to: pinned, or in the sandbox one that the drill made."""
        if self.is_sandbox:
            return str(self.state.get("target_system_identifier", ""))
        return str(self.params["target"]["system_identifier"])

    def admin(self) -> postgres.Target:
        """The server that dumps are restored to, on its maintenance database."""
        if self.is_sandbox:
            own = self.login(self.state["target_port"], "postgres")
            return replace(own, system_identifier=self.target_identifier())
        named = self.params["target"] | {"login_db": "postgres"}
        return postgres.Target.from_params(named)

    def copy(self) -> postgres.Target:
        """What was restored, reached so that no event trigger of it fires."""
        if self.state["chosen"]["way"] == "pitr":
            port = engine_driver.Workshop(self.restore_path).state().get("port")
            if not port:
                raise RunbookError(f"restore_path: {self.restore_path} holds no restored server.")
            return postgres.silenced(self.login(int(port), self.database))
        return postgres.silenced(replace(self.admin(), database=self.state["target_database"]))

    def place(self) -> dict[str, Any]:
        """Options of the bucket that is used now."""
        replica = self.state.get("is_replica", False)
        given = {**self.params}
        if replica and not self.is_sandbox:
            given |= dict.fromkeys(("region", "endpoint_url", "profile", "access_key"), None)
            given |= dict.fromkeys(("secret_key", "session_token", "aws_ca_bundle"), None) | self.params["replica"]
        if self.is_sandbox:
            given["bucket"] = self.state["replica_bucket" if replica else "bucket"]
        return given

    def store(self, bucket: str | None = None) -> s3.Store:
        """The bucket that is used now, or another one of the same place."""
        given = self.place()
        return s3.Store.from_params(given | ({"bucket": bucket} if bucket else {}))

    def heard(self, program: str, said: str) -> None:
        """Pass on what a program of the engine warned of."""
        for warning in said_warnings(said):
            self.context.warn(f"{program}: {warning}")

    def engine(self) -> engine_driver.Engine:
        """Barman's archive in it."""
        given = self.place()
        return engine_driver.Engine(
            programs=engine_driver.programs_folder(self.params["engine_bindir"]),
            store=s3.Store.from_params(given),
            prefix=pitr_rules.check_prefix(self.params["pitr_prefix"]),
            server=pitr_rules.check_name(self.params["server"], "server"),
            state=self.folder.path / "keys",
            params=given,
            heard=self.heard,
        )

    def save(self, **facts: Any) -> None:
        """Note what is new."""
        self.state |= facts
        self.folder.write(self.state)

    def phase(self, name: str, begun: datetime, status: str = "ok", msg: str = "") -> None:
        """Note a phase that ends now."""
        ended = now()
        self.state["phases"].append(
            {
                "name": name,
                "started_at": begun.isoformat(),
                "finished_at": ended.isoformat(),
                "duration_s": round((ended - begun).total_seconds(), 3),
                "status": status,
                "msg": msg,
            }
        )
        self.save()

    def facts(self, msg: str, **more: Any) -> dict[str, Any]:
        """A result."""
        state = self.state
        chosen = state.get("chosen") or {}
        # A server for a dump is there once it was provided for.
        is_there = chosen.get("way") == "dump" and (not self.is_sandbox or "target_port" in state)
        admin = self.admin() if is_there else self.living()
        return {
            "changed": True, "status": "ok", "msg": msg, "drill_id": state["drill_id"],
            "outage_is_real": self.is_sandbox, "backups": self.scenario.backups if self.is_sandbox else 0,
            "ways": [way for way in rules.WAYS if state["way"] in (way, "best")],
            "login_host": admin.host, "login_port": admin.port, "system_identifier": state["system_identifier"],
            "target_system_identifier": self.target_identifier(),
            "bucket": self.place()["bucket"], "is_replica": state.get("is_replica", False),
            "prefix": self.params["prefix"], "restore_way": chosen.get("way"), "backup_id": chosen.get("backup_id"),
            "target_time": state.get("target_time", ""), "target_database": state.get("target_database"),
            "restore_path": str(self.restore_path), "recovered": state.get("recovered", False),
        } | more  # fmt: skip


# --- begin ------------------------------------------------------------------------------------------------------------


def begin(drill: Drill) -> dict[str, Any]:
    """Refuse what must be refused, clear what was left, and make what the drill needs."""
    params, folder = drill.params, drill.folder
    rules.check_request(
        environment=params["environment"], scenario=params["scenario"], way=params["way"], plant=params["plant"]
    )
    judging.Objectives(params["rto_s"], params["rpo_s"])
    announced = rules.check_announcement(params["announcement"], min_days=params["announce_days"], now=now())
    left = folder.read()
    own = drill.context.run.process or ""
    if left.get("process") and left["process"] != own and driver.may_live(left["process"]):
        raise RunbookError(
            f"state_dir: drill {left['drill_id']} is under way in {folder.path} ({left['controller']}); wait until it "
            "is through."
        )
    if folder.foreign():
        raise RunbookError(
            f"state_dir: {folder.path} holds {', '.join(folder.foreign())}, which no drill put there; name another one."
        )
    at = now()
    drill.state = {
        "drill_id": manifests.backup_id(at), "controller": drill.context.run.controller or "", "process": own,
        "environment": params["environment"],
        "host": params["host"], "scenario": params["scenario"], "way": params["way"], "planted": params["plant"],
        "restore_path": str(drill.restore_path), "started_at": at.isoformat(),
        "phases": [], "checks": [], "failed": {}, "system_identifier": "", "port": 0,
        "objectives": {"rto_s": params["rto_s"], "rpo_s": params["rpo_s"]},
        "announced": announced, "measured": asdict(judging.Measured()),
    }  # fmt: skip
    for name in rules_owed(folder, at.date()):
        drill.context.warn(f"An earlier drill's lessons are not complete: {name}.")
    if not drill.is_sandbox:
        refuse_production(drill)
    title = drill.scenario.title + (f", with {params['plant']} planted" if params["plant"] else "")
    if drill.context.check_mode:
        by = {"best": "the way that loses least", "dump": "a dump", "pitr": "point-in-time recovery"}[params["way"]]
        return {
            "changed": True, "status": "ok", "outage_is_real": drill.is_sandbox,
            "msg": f"Would drill: {title}; restored by {by}. {announced}",
        }  # fmt: skip
    if left:
        drill.context.warn(f"Drill {left['drill_id']} was left unfinished; removed {remove(drill, left)}.")
    if drill.is_sandbox:
        stamp = drill.state["drill_id"].lower()
        drill.state |= {"bucket": f"{driver.BUCKET}{stamp}", "replica_bucket": f"{driver.BUCKET}{stamp}-replica"}
        drill.save()
        driver.leave_a_guard(folder, drill.state["drill_id"], process.parse(own), drill.restore_path)
        try:
            make_sandbox(drill)
        except BaseException:
            remove(drill, drill.state)
            folder.note.unlink(missing_ok=True)
            raise
    drill.save()
    return drill.facts(f"Drill {drill.state['drill_id']} began: {title}. {announced}")


def rules_owed(folder: driver.Folder, today: date) -> list[str]:
    """What earlier drills' lessons still lack."""
    return [field for name, text in folder.lesson_texts() for field in judging.owed(text, source=name, today=today)]


def refuse_production(drill: Drill) -> None:
    """See that the target is not the living server, and empty."""
    params = drill.params
    identifier = params["system_identifier"]
    production = {identifier} if identifier else set()
    living = postgres.Target.from_params(params)
    session: postgres.Session | None = None
    with contextlib.suppress(RunbookError):
        # It may be gone; then nothing is known of it but what is pinned.
        session = driver.connect(replace(living, system_identifier=None))
    if session is not None:
        with session:
            found, database = postgres.cluster_and_database(session)
            if identifier:
                identity.check(found, database, system_identifier=identifier, database=living.database)
            production.add(found)
            drill.state["production_bytes"] = driver.sizes(session)
            drill.state["columns"] = driver.columns(session)
            drill.state["archive_delay_s"] = driver.archive_delay_s(session)
    drill.state["system_identifier"] = identifier
    name = dated_name(drill.database, "drill", drill.state["drill_id"])
    drill.state["target_database"] = name
    if params["way"] == "pitr":
        return
    # Without its pin: who answers is compared here, with the living one too.
    with driver.connect(replace(drill.admin(), system_identifier=None)) as session:
        rules.check_target(
            found=driver.identity(session), pinned=params["target"]["system_identifier"], production=production,
            database=name, databases={row["datname"] for row in session.query("SELECT datname FROM pg_database")},
        )  # fmt: skip
        permit(drill, session)


def permit(drill: Drill, session: postgres.Session) -> None:
    """A server that the drill made, or that proved to be its target, may be written to by the rest of this run."""
    permits.grant(drill.context.run, Target("database", driver.identity(session), drill.database))


def make_sandbox(drill: Drill) -> None:
    """The drill's own primary, buckets and clients."""
    params, folder = drill.params, drill.folder
    for name in (drill.state["bucket"], drill.state["replica_bucket"]):
        driver.make_bucket(drill.store(name), params["environment"])
    bindir = find_bindir(params["bindir"])
    cluster = driver.make_server(folder.path / "primary", bindir, params["login_password"])
    drill.save(port=cluster.port, bindir=str(bindir))
    steps = demo_database.steps(scale=params["scale"], seed=1)

    def show(label: str, done: int, total: int) -> None:
        drill.context.progress.update(label, done, total, "steps", final=done == total)

    living = driver.fill_primary(drill.login(cluster.port, "postgres"), drill.database, steps, show)
    driver.begin_archiving(cluster)
    with driver.connect(living) as session:
        permit(drill, session)
        # It is backed up under a lease, as a living database is.
        lease.acquire(session, drill.context.run, purpose="dr_drill.yml")
        method = content_hash.method(session.server_version)
        drill.save(system_identifier=driver.identity(session), columns=driver.columns(session))
    if params["way"] != "dump":
        # What a dump holds is compared with its manifest.
        drill.save(method=method, contents=driver.contents(living, method))
    folder.clients.start(living, clients=params["clients"], most_s=MOST_S)


# --- outage -----------------------------------------------------------------------------------------------------------


def outage(drill: Drill) -> dict[str, Any]:
    """Declare the disaster; in the sandbox, make it."""
    drill.resume()
    if not drill.is_sandbox:
        at = now()
        drill.save(outage_at=at.isoformat())
        drill.phase("detect", at, msg="The outage was declared; nothing was broken.")
        return drill.facts(f"Outage declared: {drill.scenario.title}.")
    folder, scenario = drill.folder, drill.scenario
    table = postgres.table(TABLE)
    written = len(folder.clients.acknowledged())
    # Some of what the clients write is newer than every backup.
    folder.clients.wait_for(0, after=written, deadline_s=30)
    time.sleep(drill.params["write_s"])
    with driver.connect(drill.living()) as session:
        drill.save(archive_delay_s=driver.archive_delay_s(session))
        plant(drill, session)
        if not scenario.kills:
            drill.save(mistake_at=mistake(drill, session))
            folder.clients.wait_for(0, after=len(folder.clients.acknowledged()), deadline_s=30)
            time.sleep(drill.params["write_s"])
    primary = Cluster(Path(drill.state["bindir"]), folder.path / "primary" / "data", drill.state["port"])
    if scenario.replica:
        driver.copy_bucket(drill.store(), drill.store(drill.state["replica_bucket"]))
    at = now()
    drill.save(outage_at=at.isoformat())
    if scenario.kills:
        driver.kill(primary, drill.login(drill.state["port"], "postgres"), folder.path / "lost")
    if scenario.replica:
        driver.remove_bucket(drill.store())
        drill.save(is_replica=True)
    looks = 0
    question = driver.healthy(table)
    while looks < LOOKS:
        looks = 0 if driver.answers(drill.living(), question) else looks + 1
        if (now() - at).total_seconds() > 60:
            raise RunbookError("The disaster was made, and the service still answers after 60 s.", status="unknown")
        time.sleep(LOOK_EVERY_S)
    # Nobody writes to what is broken any more.
    folder.clients.direct(None, 0)
    drill.phase("detect", at, msg=f"{LOOKS} looks in a row found no service.")
    return drill.facts(f"Disaster: {scenario.title}; noticed after {(now() - at).total_seconds():.1f} s.")


def mistake(drill: Drill, session: postgres.Session) -> str:
    """Make the mistake of the scenario on the living server; the moment before it."""
    before = session.query("SELECT clock_timestamp() AS at")[0]["at"]
    for statement in driver.mistakes(drill.state["scenario"], postgres.table(TABLE)):
        session.execute(statement)
    return str(before.isoformat())


def plant(drill: Drill, session: postgres.Session) -> None:
    """Plant the fault that was asked for, and what the scenario says of the newest backup."""
    ways = [way for way in rules.WAYS if drill.state["way"] in (way, "best")]
    fault = drill.state["planted"] or ("missing_object" if drill.scenario.newest_bad else None)
    if fault is None:
        return
    if fault == "older_schema":
        session.execute(driver.migration(postgres.table(TABLE)))
        drill.save(columns=driver.columns(session))
    elif "dump" in ways:
        plant_in_dump(drill, fault)
    if fault != "older_schema" and "pitr" in ways:
        plant_in_pitr(drill, session, fault)


def plant_in_dump(drill: Drill, fault: str) -> None:
    """Damage the newest logical backup."""
    store = drill.store()
    base = manifests.database_folder(drill.params["prefix"], drill.database)
    folder = f"{base}{store.folders(base)[-1]}/"
    largest = max((each for each in store.entries(folder) if "/data-" in each.key), key=lambda entry: entry.size_bytes)
    if fault == "flipped_byte":
        driver.flip_byte(store, largest.key)
    elif fault == "missing_object":
        store.delete([largest])
    elif fault == "truncated_object":
        driver.truncate(store, largest.key)
    elif fault == "wrong_database":
        key = folder + manifests.MANIFEST_NAME
        found = manifests.parse(store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES), where=key)
        other = str(int(found.source.system_identifier) + 1)
        store.put(key, replace(found, source=replace(found.source, system_identifier=other)).to_bytes())


def plant_in_pitr(drill: Drill, session: postgres.Session, fault: str) -> None:
    """Damage the newest base backup, or the WAL behind it."""
    engine, store = drill.engine(), drill.store()
    newest = max(str(each["backup_id"]) for each in engine.backups())
    tar = next(each for each in store.entries(f"{engine.root}base/{newest}/") if "data.tar" in each.key)
    if fault == "flipped_byte":
        driver.flip_row(store, tar.key, driver.row_place(session, postgres.table(TABLE)))
    elif fault == "missing_object":
        store.delete([tar])
    elif fault == "truncated_wal":
        known = {key for key, _, _ in engine.wal_objects()}
        for _ in range(2):
            driver.archive_now(session, deadline_s=SWITCH_S)
        fresh = sorted(key for key, _, _ in engine.wal_objects() if key not in known)
        driver.truncate(store, fresh[0])
    elif fault == "wrong_database":
        other = str(int(drill.state["system_identifier"]) + 1)
        store.put(
            f"{engine.root}{engine_driver.IDENTITY}",
            json.dumps({"system_identifier": other, "engine": "barman-cloud"}).encode(),
        )


# --- decide -----------------------------------------------------------------------------------------------------------


def decide(drill: Drill) -> dict[str, Any]:
    """Find the best recovery point, see that it has room, and provide for a server."""
    drill.resume()
    begun = now()
    first = "chosen" not in drill.state
    state, params = drill.state, drill.params
    if drill.scenario.replica and not drill.is_sandbox:
        if not params["replica"].get("bucket"):
            raise RunbookError("replica: it names no bucket, and region_lost restores from it; set backup_replica_*.")
        drill.save(is_replica=True)
    before = datetime.fromisoformat(state["mistake_at"]) if state.get("mistake_at") else None
    try:
        if before and first and state["way"] != "dump":
            with driver.connect(replace(drill.living(), database="postgres")) as session:
                driver.archive_now(session, deadline_s=SWITCH_S)
        candidates: list[rules.Candidate] = []
        if state["way"] != "pitr":
            candidates += dumps(drill, before)
        if state["way"] != "dump":
            candidates += base_backups(drill, before)
        drill.save(unusable=rules.unusable(candidates, state["failed"]))
        choice = rules.choose(candidates, way=state["way"], failed=state["failed"])
        chosen = choice.chosen
        rules.check_room(needed_bytes=chosen.size_bytes, free_bytes=room(drill, chosen.way), where=where(drill, chosen))
    except RunbookError as error:
        drill.phase("decide", begun, "breach", error.message)
        drill.save(failure=error.message)
        raise
    target = chosen.point.isoformat() if chosen.point and (chosen.is_cut or before) else ""
    drill.save(
        target_time=target,
        chosen={
            "way": chosen.way,
            "backup_id": chosen.backup_id,
            "point": chosen.point.isoformat() if chosen.point else None,
            "passed_over": [{"backup_id": each.backup_id, "reason": each.problem} for each in choice.passed_over],
            "costs_s": round(choice.costs_s, 3),
        },
    )
    drill.phase("decide", begun, msg=choice.sentence())
    provision(drill)
    drill.save(restore_begun_at=now().isoformat())
    return drill.facts(choice.sentence())


def where(drill: Drill, chosen: rules.Candidate) -> str:
    """How a sentence calls the place that a restore fills."""
    return str(drill.restore_path) if chosen.way == "pitr" or drill.is_sandbox else "the target"


def room(drill: Drill, way: str) -> int | None:
    """Free bytes where the restore goes; None where that is not this machine."""
    given: int | None = drill.params["free_disk_bytes"]
    if given is not None:
        return given
    return engine_driver.Workshop(drill.restore_path).free_bytes() if way == "pitr" or drill.is_sandbox else None


def dumps(drill: Drill, before: datetime | None) -> list[rules.Candidate]:
    """Logical backups, newest first, up to the first that is good."""
    store = drill.store()
    base = bucket.home(store, manifests.database_folders(drill.params["prefix"], drill.database))
    found: list[rules.Candidate] = []
    try:
        names = restore_rules.candidates(store.folders(base), backup=restore_rules.LATEST, before=before)
    except RunbookError as error:
        return [rules.Candidate("dump", "none", None, problem=error.message)]
    for name in names:
        problem, size, point = "", 0, manifests.started_at(name)
        key = f"{base}{name}/{manifests.MANIFEST_NAME}"
        try:
            text = bucket.manifest_text(store, f"{base}{name}/")
            if text is None:
                problem = "its manifest is missing, so it is not complete"
            else:
                manifest = manifests.parse(text, where=store.url(key))
                point, size = datetime.fromisoformat(manifest.source.snapshot_at), manifest.source.size_bytes
                if before and point >= before:
                    continue
                restore_rules.check_manifest(manifest, folder=f"{base}{name}/", database=drill.database, backup_id=name)
                if manifest.source.system_identifier != drill.state["system_identifier"]:
                    problem = (
                        f"it is of cluster {manifest.source.system_identifier}, not of "
                        f"{drill.state['system_identifier']}"
                    )
                wrong = restore_rules.wrong_objects(manifest, restore_driver.sizes(store, manifest))
                problem = problem or "; ".join(wrong)
        except RunbookError as error:
            problem = error.message
        found.append(rules.Candidate("dump", name, point, size, problem))
        if not problem and f"dump/{name}" not in drill.state["failed"]:
            drill.state["backup_duration_s"] = manifest.duration_s
            break
    return found


def base_backups(drill: Drill, before: datetime | None) -> list[rules.Candidate]:
    """Base backups with the moment to which WAL carries each."""
    engine = drill.engine()
    found: list[rules.Candidate] = []
    try:
        marked = engine.identity()
        if marked is None:
            raise RunbookError(f"there is no archive {engine.store.url(engine.root)}")
        if marked != drill.state["system_identifier"]:
            raise RunbookError(
                f"the archive is marked as that of cluster {marked}, not of {drill.state['system_identifier']}"
            )
        archive = pitr_rules.gather(engine.backups(), engine.wal_objects(), engine.history)
        windows = [each for each in pitr_rules.windows(archive) if before is None or each.start <= before]
        if not windows:
            # It says what can be restored.
            pitr_rules.choose(archive, pitr_rules.Target(time=before), timeline=None, backup_id=None)
    except RunbookError as error:
        drill.save(archived=False)
        return [rules.Candidate("pitr", "archive", None, problem=error.message)]
    drill.save(archived=True)
    gaps: list[str] = []
    for window in windows:
        entries = list(engine.store.entries(f"{engine.root}base/{window.backup.backup_id}/"))
        names = [entry.key.rpartition("/")[2] for entry in entries]
        missing = [part for part in ("backup.info", "data.tar") if not any(name.startswith(part) for name in names)]
        problem = f"{' and '.join(missing)} of it missing in the bucket" if missing else ""
        # Compressed: what it takes when it is unpacked is not written down anywhere.
        size = sum(entry.size_bytes for entry in entries)
        reach = pitr_rules.before_gap(archive, window) if window.gaps else window.end
        point = min(before, reach) if before else reach
        found.append(rules.Candidate("pitr", window.backup.backup_id, point, size, problem, is_cut=bool(window.gaps)))
        gaps += [f"{first} to {last}" if first != last else first for first, last in window.gaps]
    if gaps:
        msg = f"The WAL is broken: {', '.join(dict.fromkeys(gaps))} missing; nothing after that can be restored."
        drill.save(archive_check={"name": "archive", "status": "breach", "msg": msg})
    return found


def provision(drill: Drill) -> None:
    """Make the server that a dump goes to, and clear what a failed attempt left."""
    begun = now()
    state = drill.state
    if state["chosen"]["way"] == "pitr":
        workshop = engine_driver.Workshop(drill.restore_path)
        if workshop.state():
            with workshop.mine():
                workshop.clear()
        return
    if not drill.is_sandbox:
        return
    state["target_database"] = drill.database
    if "target_port" not in state:
        made = driver.make_server(drill.folder.path / "target", Path(state["bindir"]), drill.params["login_password"])
        with driver.connect(drill.login(made.port, "postgres")) as session:
            permit(drill, session)
            state |= {"target_port": made.port, "target_system_identifier": driver.identity(session)}
            # A database's dump does not hold the roles that own what is in it.
            demo_driver.fill(session.connection, demo_database.roles())
        drill.phase("provision", begun, msg="A new server for the dump.")
    else:
        driver.drop_database(drill.admin(), drill.database)
        drill.save()


# --- verify -----------------------------------------------------------------------------------------------------------


def verify(drill: Drill) -> dict[str, Any]:
    """Take what was restored for good or bad; if it is good, let the clients write to it."""
    drill.resume()
    state, failure = drill.state, drill.params["failure"]
    chosen = state["chosen"]
    attempt = f"{chosen['way']}/{chosen['backup_id']}"
    restored = datetime.fromisoformat(state["restore_begun_at"])
    if failure:
        failure = keep_log(drill, failure)
        state["failed"][attempt] = failure
        drill.phase("restore", restored, "breach", failure)
        return drill.facts(f"The restore of {attempt} failed: {failure}")
    drill.phase("restore", restored, msg=f"{chosen['way']} {chosen['backup_id']}.")
    begun = now()
    checks = look(drill)
    wrong = " ".join(check.msg for check in checks if check.status == "breach")
    # No other backup of the database would bring a file back, so this one is not passed over for that.
    checks += files(drill)
    bad = " ".join(check.msg for check in checks if check.status == "breach")
    unknown = " ".join(check.msg for check in checks if check.status == "unknown")
    status = "breach" if bad else "unknown" if unknown else "ok"
    drill.save(checks=[asdict(check) for check in checks])
    drill.phase("verify", begun, status, bad or unknown or all_ok(len(checks)))
    if wrong:
        state["failed"][attempt] = wrong
        drill.save()
        return drill.facts(f"What {attempt} gave is not good: {wrong}")
    if drill.is_sandbox:
        begun = now()
        drill.folder.clients.direct(drill.copy(), 1)
        taken = drill.folder.clients.wait_for(1, deadline_s=SWITCH_S)
        drill.phase("switch", begun, msg="The first commit on the restored service was acknowledged.")
        service_at = datetime.fromtimestamp(taken.acknowledged_s, UTC)
    else:
        service_at = now()
    drill.save(recovered=True, service_at=service_at.isoformat())
    good = sum(1 for check in checks if check.status == "ok")
    told = f"{good} of {count(len(checks), 'check')} {agree(good, 'is', 'are')} ok."
    said = f"What {attempt} gave serves again: {told} {bad or unknown}"
    return drill.facts(said.rstrip())


def keep_log(drill: Drill, failure: str) -> str:
    """Keep what the restored server's log says where the tear-down does not reach; the sentence, naming that place."""
    log = drill.restore_path / "server.log"
    if str(log) not in failure or not log.exists():
        return failure
    kept = drill.folder.logs / f"{drill.state['drill_id']}-{drill.state['chosen']['backup_id']}.log"
    workspace.write_text(kept, rules.log_without_rows(log.read_text(errors="replace")))
    return failure.replace(str(log), str(kept))


def look(drill: Drill) -> list[Check]:
    """Everything that is asked of the copy; figures go into the note."""
    state, copy = drill.state, drill.copy()
    measured: dict[str, Any] = state["measured"]
    checks: list[Check] = []
    with driver.connect(copy) as session:
        asked, said, answered = driver.server_clock(session)
        checks.append(rules.judge_clock(preflight.clock_skew_s(said, sent_at=asked, received_at=answered)))
        if state.get("columns"):
            checks.append(rules.judge_schema(state["columns"], driver.columns(session)))
        measured["restored_bytes"] = driver.sizes(session)
        replayed = driver.last_replayed(session)
        if replayed:
            # Until now it was known only when S3 took the last segment.
            state["chosen"]["point"] = replayed.isoformat()
        try:
            rows = driver.heartbeats(session)
        except RunbookError as error:
            checks.append(Check("heartbeat", "breach", error.message))
            rows = {}
    if drill.is_sandbox:
        checks.append(of_ledger(drill, rows, measured))
    else:
        there, outage_at = max(rows.values(), default=None), judging.moment(state.get("outage_at"))
        if there is not None and outage_at is not None:
            # Up to the outage, not to the living database's last heartbeat: where heartbeats ended, work went on.
            measured["rpo_s"] = max(0.0, round(outage_at.timestamp() - there / 1e6, 3))

    def contents() -> Check | None:
        if state["chosen"]["way"] == "dump":
            return of_proof(drill)
        if drill.is_sandbox:
            return rules.judge_contents(state["contents"], driver.contents(copy, state["method"]))
        return None

    def integrity(check: Callable[[], None]) -> list[integrity_rules.Finding]:
        return driver.integrity_findings(copy, drill.params["smoke_queries"], integrity_rules.judge_sequence, check)

    findings, compared = driver.side_by_side(integrity, contents)
    checks += [compared] if compared else []
    for kind in ("sequences", "foreign_keys", "indexes", "amcheck", "smoke"):
        if kind == "smoke" and not drill.params["smoke_queries"]:
            continue
        concluded = integrity_rules.conclude(kind, findings)
        checks.append(Check(concluded.name, concluded.status, concluded.msg))
    return checks


def files(drill: Drill) -> list[Check]:
    """Compare the restored rows of ``storage.objects`` with the second copy of the files, where that is asked."""
    wanted = drill.params["files"]
    why = files_not_asked(drill)
    if why:
        drill.save(files={"asked": False, "msg": why})
        return []
    figures: dict[str, Any] = {}
    try:
        found = compare_files(drill, wanted)
        check, figures = rules.judge_files(found), asdict(found)
    except RunbookError as error:
        check = Check("files", "unknown", f"Files could not be compared: {error.message}")
    drill.save(files={"asked": True, "msg": check.msg} | figures)
    return [check]


def files_not_asked(drill: Drill) -> str:
    """Why files are not part of this drill; empty if they are."""
    wanted = drill.params["files"]
    return rules.files_not_asked(wanted.get("bucket") or "", wanted.get("buckets") or [], drill.state.get("columns"))


def compare_files(drill: Drill, wanted: dict[str, Any]) -> rules.Files:
    """What M(s3_mirror) compares of a source, of its copy.

    :raises RunbookError: the copy or the rows cannot be read
    """
    store = s3.Store.from_params(wanted)
    found, named = Counter[str](), list[dict[str, str]]()
    with driver.connect(drill.copy()) as session:
        if not mirror.StorageRows(session, "").are_there():
            raise RunbookError("the restored database has no storage.objects.")
        unasked = mirror.StorageRows(session, "").buckets()
        for bucket in wanted["buckets"]:
            begins = f"{wanted['prefix']}{bucket}/{wanted['source_prefix']}"
            with contextlib.closing(mirror.Table()) as table:
                mirror.list_into(table, {"source": mirror.pages(store, begins)}, lambda _seen: None)
                mirror.store_rows(table, mirror.StorageRows(session, bucket).all(), wanted["source_prefix"])
                # A copy may have another ETag than its source; it says which one that had.
                doubts = [key for (key,) in table.rows(f"SELECT key {mirror.DIFFERING}")]
                mirror.look_again(table, doubts, functools.partial(mirror.original, store, begins))
                counted = mirror.differences(table)
                found.update(counted)
                unasked[bucket] = unasked.get(bucket, 0) - counted["rows"]
                for kind, key in mirror.differing_keys(table, mirror_rules.NAMED):
                    shown = mirror_rules.name_of(wanted["source_prefix"] + key, show=wanted["show_keys"])
                    named.append({"kind": kind, "name": f"{bucket}/{shown}"})
    return rules.Files(
        rows=found["rows"], missing_rows=found["missing_rows"], orphan_objects=found["orphan_objects"],
        differing_rows=found["differing_rows"], unasked_rows={name: rows for name, rows in unasked.items() if rows},
        named=named,
    )  # fmt: skip


def of_ledger(drill: Drill, rows: dict[int, int], measured: dict[str, Any]) -> Check:
    """Compare the copy with what clients were told; figures go into ``measured``."""
    ledger = {each.id: each for each in drill.folder.clients.acknowledged() if each.service == 0}
    lost = judging.loss({each.id: each.acknowledged_s for each in ledger.values()}, rows.keys())
    measured |= {
        "acknowledged_rows": lost.acknowledged_rows, "surviving_rows": lost.surviving_rows,
        "lost_rows": lost.lost_rows, "rpo_s": None if lost.rpo_s is None else round(lost.rpo_s, 3),
    }  # fmt: skip
    altered = sum(1 for number, each in ledger.items() if number in rows and rows[number] != each.beat_us)
    if lost.hole_rows:
        return Check("ledger", "breach", lost.msg)
    return rules.judge_altered(altered, lost.surviving_rows)


def of_proof(drill: Drill) -> Check:
    """What M(pg_restore) wrote down about its own comparison."""
    with driver.connect(drill.admin()) as session:
        row = session.query(
            "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s",
            (drill.state["target_database"],),
        )
    marker = Marker.read(row[0]["comment"]) if row else None
    if marker and marker.state == "proven":
        return Check(
            "contents", "ok", f"Every table was compared with the manifest, and proven at {to_second(marker.at)}."
        )
    return Check("contents", "unknown", "The restored database was not compared with its manifest.")


# --- tear down --------------------------------------------------------------------------------------------------------


def tear_down(drill: Drill) -> dict[str, Any]:
    """Remove everything that the drill made; what could not be removed is judged later."""
    drill.resume()
    if drill.params["failure"] and not drill.state.get("failure"):
        drill.save(failure=drill.params["failure"])
    # The ledger is not needed any more: its figures are in the note.
    try:
        found = {"status": "ok", "msg": f"Removed {remove(drill, drill.state)}."}
    except RunbookError as error:
        found = {"status": "breach", "msg": error.message}
    drill.save(tear_down=found)
    return drill.facts(found["msg"], status=found["status"])


def remove(drill: Drill, state: dict[str, Any]) -> str:
    """End processes, remove servers, databases and buckets of a drill; what there was."""
    found = drill.folder.clear(Path(state.get("restore_path", drill.restore_path)))
    for name in (state.get("bucket"), state.get("replica_bucket")):
        if name and driver.remove_bucket(drill_store(drill, name)):
            found.append(f"bucket {name}")
    name = state.get("target_database")
    if not drill.is_sandbox and name and drill.params["way"] != "pitr" and driver.drop_database(drill.admin(), name):
        found.append(f"database {name}")
    return ", ".join(found) or "nothing"


def drill_store(drill: Drill, bucket: str) -> s3.Store:
    """A bucket of a drill's own."""
    return s3.Store.from_params(drill.params | {"bucket": bucket})


# --- judge ------------------------------------------------------------------------------------------------------------


def judge(drill: Drill) -> dict[str, Any]:
    """Compare with the objectives; write the drill's document."""
    drill.resume()
    params, folder, at = drill.params, drill.folder, now()
    document = make_document(drill, at)
    is_red = document["status"] != "ok"
    path = None
    if not params["self_test"]:
        path = folder.history / f"{document['drill_id']}.json"
        lessons = folder.lessons / f"{document['drill_id']}.toml"
        document["lessons"] = {"path": str(lessons), "missing": rules_owed(folder, at.date())}
        workspace.write_text(lessons, judging.lessons_template(document))
        workspace.write_text(path, json.dumps(document, indent=1) + "\n")
    folder.note.unlink(missing_ok=True)
    result: dict[str, Any] = {
        "changed": True, "drill_id": document["drill_id"], "drill": document,
        "document": str(path) if path else None,
    }  # fmt: skip
    planted = document["planted"]
    if params["self_test"] and planted:
        way = drill.state["way"]
        if rules.names_fault(planted, document):
            return result | {"status": "ok", "msg": f"{planted} in {way} was found: {document['msg']}"}
        raise RunbookError(f"{planted} in {way} was planted and not found: {document['msg']}", **result)
    if is_red:
        raise RunbookError(document["msg"], **result, status=document["status"])
    return result | {"status": "ok", "msg": document["msg"]}


def make_document(drill: Drill, at: datetime) -> dict[str, Any]:
    """All that the drill found, as ``rules/drill/drill.py`` reads it."""
    state, params = drill.state, drill.params
    recovered = state.get("recovered", False)
    outage_at, service_at = judging.moment(state.get("outage_at")), judging.moment(state.get("service_at"))
    measured = state["measured"] | {"rto_s": judging.rto_s(outage_at, service_at)}
    if not recovered:
        measured["rpo_s"] = None
    chosen: dict[str, Any] = state.get("chosen") or {}
    if not recovered:
        # Nothing was chosen in the end; what was asked for tells what was tried.
        chosen = {
            "way": state["way"] if state["way"] != "best" else None, "backup_id": None, "point": None, "costs_s": None,
            "passed_over": state.get("unusable", []),
        }  # fmt: skip
    checks = [*state["checks"], *([state["archive_check"]] if "archive_check" in state else [])]
    if recovered and chosen["passed_over"] and not drill.scenario.newest_bad:
        bad = "; ".join(f"{each['backup_id']}: {str(each['reason']).rstrip('.')}" for each in chosen["passed_over"])
        checks.append({"name": "backups", "status": "breach", "msg": f"Could not be used: {bad}."})
    tear = state.get("tear_down") or {"status": "unknown", "msg": "It was not reached."}
    checks.append({"name": "tear_down", **tear})
    if state.get("failure"):
        said = str(state["failure"])
        for check in checks:
            if check["status"] == "breach":
                said = said.replace(str(check["msg"]), f"see {check['name']}.")
        checks.append({"name": "recovery", "status": "breach", "msg": said})
    objectives = judging.Objectives(**state["objectives"])
    elapsed = (at - outage_at).total_seconds() if outage_at and not recovered else None
    judged = judging.judge(objectives, judging.Measured(**measured), checks, elapsed_s=elapsed)
    spent = [each["duration_s"] for each in state["phases"] if each["name"] == "restore" and each["status"] == "ok"]
    estimate = judging.extrapolate(
        measured["restored_bytes"], spent[-1] if spent and recovered else None,
        params["production_bytes"] or state.get("production_bytes"),
    )  # fmt: skip
    document: dict[str, Any] = {
        "schema_version": judging.SCHEMA_VERSION, "drill_id": state["drill_id"], "environment": state["environment"],
        "host": state["host"], "scenario": state["scenario"], "planted": state["planted"],
        "started_at": state["started_at"], "outage_at": state.get("outage_at"), "service_at": state.get("service_at"),
        "finished_at": at.isoformat(), "status": judged.status, "msg": judged.msg, "phases": state["phases"],
        "recovery": chosen, "objectives": state["objectives"], "measured": measured, "checks": checks,
        "extrapolation": asdict(estimate) if estimate else None, "advice": [], "lessons": None, "tear_down": tear,
        "files": state.get("files")
        or {"asked": False, "msg": files_not_asked(drill) or "Nothing was restored with which files can be compared."},
    }  # fmt: skip
    promised = judging.attainable(
        backup_interval_s=params["backup_interval_s"] or None,
        backup_duration_s=state.get("backup_duration_s"),
        # An archive that is not there, or that nothing can be restored from, promises nothing.
        archive_timeout_s=params["archive_timeout_s"] or None if state.get("archived") else None,
        archive_delay_s=state.get("archive_delay_s"),
    )
    document["attainable"] = asdict(promised)
    document["advice"] = judging.advice(document, promised)
    return judging.read(document, source="drill")


def core(context: Context) -> dict[str, Any]:
    """Do what ``action`` says."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not params["state_dir"].strip():
        raise RunbookError("state_dir: it is empty; name the folder that drills may have for themselves.")
    if not params["login_db"] or not params["login_user"]:
        raise RunbookError("login_db and login_user: they are empty; name the database that the drill is about.")
    begun = time.monotonic()
    acts = {
        "begin": begin, "outage": outage, "decide": decide, "verify": verify, "tear_down": tear_down, "judge": judge,
    }  # fmt: skip
    permits.require_environment(context.run, params["environment"])
    drill = Drill(context, driver.Folder(Path(params["state_dir"]).resolve()))
    if context.check_mode:
        result = begin(drill) if params["action"] == "begin" else {
            "changed": False, "status": "ok", "msg": "Check mode begins no drill, so there is nothing to do.",
        }  # fmt: skip
    else:
        with drill.folder.mine():
            try:
                result = acts[params["action"]](drill)
            except RunbookError as error:
                if params["action"] != "begin" and drill.state:
                    # The playbook sees by it that there is something to tear down.
                    error.context["drill_id"] = drill.state["drill_id"]
                raise
    if context.diff:
        result["diff"] = {"prepared": as_lines([str(result["msg"])])}
    return {"executed_queries": []} | result | {"duration_s": round(time.monotonic() - begun, 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
