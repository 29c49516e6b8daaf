#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runbook_doctor
short_description: Check an inventory before its first scheduled run
description:
  - Looks at everything that the scheduled playbooks will need, and says of each thing whether it is there. Nothing is
    written anywhere, no lease is taken.
  - One bad thing hides no other. What could not be looked at is V(unknown). The module fails where a check is not
    V(ok).
  - On this machine it looks at C(record), C(inventory), C(environment), C(calendar), C(jobs), C(windows), C(variables),
    C(settings), C(examples), C(files), C(servers), C(change), C(contacts) and C(vault). Of each server it looks at
    certificates, connection, identity, mark of the environment, clock, versions, extensions, and at the rights of each
    user through a connection of that user. Of each bucket it looks at what M(s3_bucket_check) looks at. Of Supabase it
    asks for the project.
  - A host of the group C(servers) is asked by commands over Ansible's connection who it is, whether they are done as
    root, and what dpkg and needrestart say; logrotate there, or wherever the log files are, whether it takes the
    configuration. Prometheus and Alertmanager are asked one thing each, Lighthouse and Chromium are looked for.
  - Each server, bucket and service is asked at the same time as the others, and given up after O(timeout_s).
options:
  settings:
    description:
      - What is to be looked at. In a task each value is the name of a variable, or a list of names of which the first
        that is set counts. The action plugin of this module puts the values in their place, one by one, so that one
        that cannot be read hides no other.
    type: dict
    required: true
    suboptions:
      environment:
        description: [What the inventory is.]
        type: str
      scheduled_jobs:
        description: [The jobs that may run unattended, each with the file name of its playbook.]
        type: dict
      calendar: {description: [Maintenance windows and freezes.], type: dict}
      operations: {description: [Which window a playbook needs, where that is not the project's choice.], type: dict}
      archives:
        description: [The two tables between which rows are moved.]
        type: dict
        suboptions:
          source: {description: [Where rows are.], type: str}
          archive: {description: [Where they go.], type: str}
      cleanup:
        description: [What M(pg_cleanup) deletes.]
        type: list
        elements: dict
      database:
        description: [The database; its users stand in O(settings.users).]
        type: dict
        suboptions: &server
          login_host: {description: [Host.], type: str}
          login_port: {description: [Port.], type: int, default: 5432}
          login_db: {description: [Database.], type: str, default: postgres}
          ssl_mode: {description: [libpq's C(sslmode).], type: str, default: verify-full}
          ca_cert: {description: [File with the authorities' certificates.], type: path}
          system_identifier: {description: [The cluster that is meant.], type: str}
      proof:
        description: [The server on which backups are proven.]
        type: dict
        suboptions: *server
      users:
        description: [Who works on them.]
        type: dict
        suboptions:
          maintain:
            description: [Who maintains.]
            type: dict
            suboptions: &user
              login_user: {description: [Name.], type: str}
              login_password: {description: [Password.], type: str}
          backup: {description: [Who reads everything for a backup.], type: dict, suboptions: *user}
          restore: {description: [Who restores, swaps and rolls back.], type: dict, suboptions: *user}
          review: {description: [Who looks for what is slow.], type: dict, suboptions: *user}
          admin: {description: [Who makes roles.], type: dict, suboptions: *user}
          proof: {description: [Who restores on the server of proofs.], type: dict, suboptions: *user}
      bucket:
        description: [The bucket of the backups.]
        type: dict
        suboptions: &bucket
          bucket: {description: [Name.], type: str}
          region: {description: [Region.], type: str}
          endpoint_url: {description: [Address of an S3 server other than AWS.], type: str}
          profile: {description: [Profile of the AWS configuration files.], type: str}
          access_key: {description: [Key.], type: str}
          secret_key: {description: [Its secret.], type: str}
          session_token: {description: [Token of a session.], type: str}
          aws_ca_bundle: {description: [File with the authorities' certificates.], type: path}
      replica: {description: [Its copy in a second region.], type: dict, suboptions: *bucket}
      files: {description: [The bucket of the copies of uploaded files.], type: dict, suboptions: *bucket}
      logs_bucket: {description: [The bucket of the archives of logs.], type: dict, suboptions: *bucket}
      logs_demands:
        description: [What it must be, by the names of the options of M(s3_bucket_check).]
        type: dict
      logs:
        description: [Log files, by the names of the options of M(log_rotate), and what seals their archives.]
        type: dict
        suboptions:
          files: {description: [The streams.], type: list, elements: dict}
          config: {description: [File of logrotate's configuration.], type: str}
          state_file: {description: [State file of logrotate.], type: str}
          ssh: {description: [Where the files are.], type: str}
          become: {description: [Whether as root there.], type: bool}
          seal_keys: {description: [Keys of the chain.], type: list, elements: str}
      server:
        description: [The server of this host, by the names of the options of M(apt_upgrade).]
        type: dict
        suboptions:
          hostname: {description: [What it calls itself.], type: str}
          machine_id: {description: [Its machine id.], type: str}
          proof_environment: {description: [Environment that proves its updates.], type: str}
      prometheus:
        description: [Prometheus.]
        type: dict
        suboptions:
          prometheus_url: {description: [Address.], type: str}
          prometheus_token: {description: [Token.], type: str}
          prometheus_user: {description: [User.], type: str}
          prometheus_password: {description: [Password.], type: str}
          prometheus_ca_cert: {description: [File of certificate authorities.], type: path}
      alertmanager:
        description: [Alertmanager.]
        type: dict
        suboptions:
          alertmanager_urls: {description: [Addresses.], type: list, elements: str}
          alertmanager_token: {description: [Token.], type: str}
          alertmanager_user: {description: [User.], type: str}
          alertmanager_password: {description: [Password.], type: str}
          alertmanager_ca_cert: {description: [File of certificate authorities.], type: path}
      web:
        description: [What looks at pages, by the names of the options of M(lighthouse_info).]
        type: dict
        suboptions:
          tools_path: {description: [Folder of Lighthouse.], type: path}
          node: {description: [Node.js.], type: str}
          chromium: {description: [Chromium.], type: str}
          ca_cert: {description: [File of certificate authorities.], type: path}
      demands:
        description: [What the bucket of the backups must be, by the names of the options of M(s3_bucket_check).]
        type: dict
      supabase:
        description: [The project at Supabase.]
        type: dict
        suboptions:
          project_ref: {description: [Its reference.], type: str}
          project_name: {description: [Its name.], type: str}
          access_token: {description: [Token of the Management API.], type: str}
          api_url: {description: [Address of the API.], type: str}
      bindir: {description: [Folder of pg_dump.], type: path}
      vercel:
        description: [The project at Vercel that serves an application.]
        type: dict
        suboptions:
          project_id: {description: [Its id.], type: str}
          project_name: {description: [Its name.], type: str}
          team_id: {description: [Id of its team.], type: str}
          access_token: {description: [Token of Vercel.], type: str}
          api_url: {description: [Address of the API.], type: str}
      repository:
        description: [The application's git repository, by the names of the options of M(repository_preflight).]
        type: dict
        suboptions:
          branch: {description: [Branch that production is built from.], type: str}
          repository: {description: [Its address.], type: str}
          repository_root: {description: [Its first commit.], type: str}
          repository_user: {description: [User of the token.], type: str}
          repository_token: {description: [Token.], type: str}
          repository_ssh_key_file: {description: [File of a key.], type: path}
          repository_known_hosts_file: {description: [File with the server's key.], type: path}
          repository_ca_cert: {description: [File of certificate authorities.], type: path}
  roles:
    description:
      - The roles whose variables are held against their argument specs, and against the options and bounds of the
        modules of their tasks. The action plugin does it.
    type: list
    elements: dict
    default: []
    suboptions:
      role: {description: [Its name.], type: str, required: true}
      entries: {description: [Its entry points that count.], type: list, elements: str, required: true}
      operation:
        description: [The playbook, and the tag, without a job of which it is left out. Without this it always counts.]
        type: str
      unscheduled: {description: [The variable that decides where nothing is scheduled.], type: str}
      parts: {description: [Settings that are left out with it.], type: list, elements: str}
  found:
    description:
      - What only Ansible itself can see of the inventory. The action plugin fills it in.
    type: dict
    default: {}
    suboptions:
      inventory_sources: {description: [The inventories of this run.], type: list, elements: str, default: []}
      playbooks: {description: [Playbooks that there are.], type: list, elements: str, default: []}
      names: {description: [Each setting with its variable, by their parts.], type: dict, default: {}}
      refused: {description: [What roles and modules would refuse.], type: list, elements: str, default: []}
      unknown: {description: [Variables that do not exist, each with the nearest.], type: dict, default: {}}
      unread: {description: [Variables that cannot be read, with the reason.], type: list, elements: str, default: []}
      examples: {description: [Variables with a value of the examples.], type: list, elements: str, default: []}
      strays: {description: [Files of variables of nobody.], type: list, elements: str, default: []}
      servers: {description: [The hosts of the group servers.], type: list, elements: dict, default: []}
      encrypted: {description: [How many values are encrypted.], type: int, default: 0}
      locked: {description: [Those that no password opens.], type: list, elements: str, default: []}
      published: {description: [Those that the examples' password opens.], type: list, elements: str, default: []}
      plain: {description: [Secrets that are not encrypted.], type: list, elements: str, default: []}
      change:
        description: [What operations that are run as a change lack.]
        type: list
        elements: str
        default: []
      contacts:
        description: [What is wrong with the emergency contacts.]
        type: list
        elements: str
        default: []
  certificate_days:
    description:
      - A certificate that ends within so many days is a breach.
    type: int
    default: 30
  max_clock_skew_s:
    description:
      - Largest difference between the clocks of server and bastion that is accepted, in seconds.
    type: int
    default: 10
  timeout_s:
    description:
      - How long a server, bucket or service may take to answer everything, in seconds, 5 to 600.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Nothing is written anyway.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look over how the database is reached, and by whom
  runbook_doctor:
    settings:
      environment: runbook_environment
      scheduled_jobs: schedule_jobs
      database:
        login_host: db_login_host
        login_db: db_login_db
        system_identifier: preflight_system_identifier
      users:
        maintain: {login_user: db_login_user, login_password: db_login_password}
        backup: {login_user: [db_backup_login_user, db_login_user]}
"""

RETURN = r"""
changed:
  description: Always false.
  type: bool
  returned: always
msg:
  description: One sentence on all checks.
  type: str
  returned: always
status:
  description: The worst of all checks, V(ok), V(breach) or V(unknown).
  type: str
  returned: always
checks:
  description:
    - Each check with C(name), C(status), C(subject) and C(msg), which says what to do where the status is not V(ok).
  type: list
  elements: dict
  returned: always
"""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import journal
from ansible.module_utils.runbook.drivers.backup import backup
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git, vercel
from ansible.module_utils.runbook.drivers.logs.host import Host
from ansible.module_utils.runbook.drivers.observe import alertmanager, prometheus
from ansible.module_utils.runbook.drivers.postgres import (
    bloat,
    compact,
    content_hash,
    postgres,
    roles,
    tls_probe,
)
from ansible.module_utils.runbook.drivers.postgres import doctor as driver
from ansible.module_utils.runbook.drivers.postgres import environment_mark as marks
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.supabase import supabase as supabase_driver
from ansible.module_utils.runbook.drivers.updates import apt
from ansible.module_utils.runbook.drivers.web import browser
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import doctor as rules
from ansible.module_utils.runbook.rules import environment_mark, identity, preflight, variables
from ansible.module_utils.runbook.rules.backup import bucket_check
from ansible.module_utils.runbook.rules.change import calendar
from ansible.module_utils.runbook.rules.deploy import deployments
from ansible.module_utils.runbook.rules.deploy import git as git_rules
from ansible.module_utils.runbook.rules.logs import chain
from ansible.module_utils.runbook.rules.logs import files as log_files
from ansible.module_utils.runbook.rules.postgres import cleanup
from ansible.module_utils.runbook.rules.postgres import content_hash as hashes
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.supabase import supabase as supabase_rules
from ansible.module_utils.runbook.rules.updates import apt as apt_rules
from ansible.module_utils.runbook.rules.updates import server
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: It runs on the bastion, and reaches a host of the group servers by commands over Ansible's connection.
BY_COMMANDS = True
#: Of each service, what is said of its checks where it did not answer.
LATE = "it did not answer within timeout_s; see that this machine may reach it"


#: The variables that pin a server and say where it is, where they are not those of the database.
_VARIABLES: dict[str, dict[str, str]] = {
    "database": {},
    "proof": {"pin": "backup_proof_system_identifier", "login": "backup_proof_login"},
}


@contextmanager
def looking(found: list[Check], name: str, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """One look; what goes wrong becomes its check, and the next look follows.

    :param names: the variables behind options that an error may name
    """
    try:
        yield
    except RunbookError as error:
        found.append(Check(name, error.status, variables.told(error.message, names or {})))
    except Exception as error:  # a server's text may hold the content of a row, so only the kind is told
        found.append(Check.unknown(name, f"Could not be looked at ({type(error).__name__}); please report this line."))


def at_once(works: Mapping[str, Callable[[list[Check]], None]], timeout_s: float) -> list[Check]:
    """Do all works at the same time; those that take too long are given up, with what they have found so far."""
    found: dict[str, list[Check]] = {name: [] for name in works}

    def do(name: str) -> None:
        with looking(found[name], name):
            works[name](found[name])

    threads = {name: threading.Thread(target=do, args=(name,), daemon=True) for name in works}
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + timeout_s
    checks = []
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        checks += list(found[name])
        if thread.is_alive():
            checks.append(rules.not_asked(name, LATE))
    return checks


class Doctor:
    """The looks, in the order of the table."""

    def __init__(self, context: Context) -> None:
        self.params = context.params
        self.settings: dict[str, Any] = context.params["settings"]
        self.seen: dict[str, Any] = context.params["found"]
        self.jobs: dict[str, Any] = self.settings.get("scheduled_jobs") or {}
        self.users = rules.users(rules.wanted(self.jobs))
        self.now = datetime.now(UTC)
        #: PostgreSQL's ``server_version_num`` of each server that let us in.
        self.versions: dict[str, int] = {}
        #: The system identifier of each server that is the one that is meant.
        self.clusters: dict[str, str] = {}
        #: Roles that are ``named`` in the database, and its ``owners``; those that are ``there`` on the server of
        #: proofs, and those that its user can have ``given`` objects to.
        self.roles: dict[str, set[str]] = {}

    def part(self, name: str) -> dict[str, Any]:
        """A part of the settings; empty where the inventory says nothing of it."""
        return self.settings.get(name) or {}

    def names(self, part: str) -> dict[str, str]:
        """The variables behind a part of the settings."""
        return dict(each.split(" ") for each in self.seen["names"].get(part) or ())

    # This machine ----------------------------------------------------------------------------------------------------

    def machine(self) -> list[Check]:
        """What lies on this machine."""
        found: list[Check] = []
        sources, environment = self.seen["inventory_sources"], self.settings.get("environment")
        sayings: dict[str, Callable[[], str]] = {
            "record": lambda: preflight.check_record(journal.inspect()),
            "inventory": lambda: preflight.check_inventory(sources),
            "environment": lambda: preflight.check_environment(environment, sources[0] if sources else ""),
            "calendar": lambda: calendar.check(
                self.part("calendar"), self.part("operations"), environment=str(environment), now=self.now
            ),
        }
        for name, say in sayings.items():
            with looking(found, name):
                found.append(Check.ok(name, say()))
        found += [
            rules.judge_variables(self.seen["unknown"]),
            rules.judge_jobs(self.jobs, self.seen["playbooks"]),
            rules.judge_windows(self.jobs, self.part("calendar"), self.part("operations"), self.now),
            rules.judge_unread(self.seen["unread"]),
            rules.judge_options(self.seen["refused"]),
            rules.judge_examples(self.seen["examples"]),
            rules.judge_strays(self.seen["strays"]),
            rules.judge_servers(self.seen["servers"], str(self.settings.get("environment"))),
            *rules.judge_changes(self.seen["change"]),
            rules.judge_contacts(self.seen["contacts"]),
            rules.judge_vault(
                locked=self.seen["locked"], examples=self.seen["published"], plain=self.seen["plain"],
                encrypted=self.seen["encrypted"],
            ),
        ]  # fmt: skip
        return found

    # Servers ---------------------------------------------------------------------------------------------------------

    def target(self, server: str, user: str) -> postgres.Target:
        """A server as one of the users reaches it; without its pin, which is a check of its own."""
        login = self.part("users").get(user) or {}
        empty = {"login_user": None, "login_password": None}
        return postgres.Target.from_params(empty | self.part(server) | login | {"system_identifier": None})

    def session(self, target: postgres.Target) -> postgres.Session:
        """A session that waits for nothing."""
        return postgres.Session(target, lock_timeout_ms=2_000, statement_timeout_ms=20_000, purpose="doctor")

    def certificates(self, found: list[Check], server: str, target: postgres.Target) -> None:
        """How long the certificates last that libpq will look at."""
        days, name = self.params["certificate_days"], f"{server} ca_cert"
        root = tls_probe.root_file(target.ssl_mode, target.ca_cert)
        if root is None or target.host.startswith("/"):
            environment = str(self.settings.get("environment") or "")
            found.append(rules.judge_unproven(name, target.ssl_mode, target.host, environment))
            return
        with looking(found, name):
            ends = tls_probe.authority_ends(root)
            what, fix = f"The first of the authorities in {root}", "get the new file from whoever runs the server"
            found.append(
                rules.judge_end(name, what, min(ends), self.now, least_days=days, fix=fix)
                if ends
                else Check.unknown(name, f"{root} holds no authority, so nobody can say when it ends.")
            )
        name, full = f"{server} certificate", target.ssl_mode == "verify-full"
        with looking(found, name):
            end = tls_probe.server_end(
                target.host, target.port, root, check_hostname=full, timeout_s=postgres.CONNECT_TIMEOUT_S
            )
            what = f"The certificate of {target.host}"
            found.append(rules.judge_end(name, what, end, self.now, least_days=days, fix="have it renewed"))

    def proves(self, found: list[Check], server: str, session: postgres.Session) -> bool:
        """Whether the cluster is the one that is meant, or nobody has said yet which is."""
        pinned, name = self.part(server).get("system_identifier") or "", f"{server} identity"
        with looking(found, name):
            cluster, database = postgres.cluster_and_database(session)
            says = identity.check(
                cluster, database, system_identifier=pinned, database=session.target.database, **_VARIABLES[server]
            )
            self.clusters[server] = cluster
            found.append(Check.ok(name, says))
            return True
        return not pinned

    def database(self, found: list[Check]) -> None:
        """The database, and what each user may do there."""
        target = self.target("database", "maintain")
        self.certificates(found, "database", target)
        rest = ["database identity", "database clock", *(f"rights {user}" for user in self.users)]
        try:
            session = self.session(target)
        except RunbookError as error:
            found.append(Check("database", error.status, error.message))
            if error.context.get("connection") == "away":
                found += [rules.not_asked(name, "the server cannot be reached") for name in rest]
                return
        else:
            with session:
                found.append(Check.ok("database", f"{target}: PostgreSQL {session.server_version // 10_000}."))
                if not self.proves(found, "database", session):
                    found += [rules.not_asked(name, "another cluster answered") for name in rest[1:]]
                    return
                self.versions["database"] = session.server_version
                self.roles["named"] = set(backup.read_roles(session))
                self.roles["owners"] = {each.name for each in roles.everybody(session)}
                self.server(found, session)
                self.extensions(found, session)
        for user in self.users:
            self.rights(found, user)

    def mark(self, found: list[Check], name: str, session: postgres.Session) -> None:
        """What a database says of its environment."""
        with looking(found, f"{name} mark"):
            says = environment_mark.check(
                environment_mark.parse(marks.settings(session, session.target.database)),
                environment=str(self.settings.get("environment") or ""),
                database=session.target.database,
                playbook="doctor.yml",
            )
            found.append(Check.ok(f"{name} mark", says))

    def server(self, found: list[Check], session: postgres.Session) -> None:
        """Mark of the database, clock and role of the server, and the programs that talk to it."""
        self.mark(found, "database", session)
        with looking(found, "database clock"):
            sent = datetime.now(UTC)
            row = session.query("SELECT clock_timestamp() AS now, pg_is_in_recovery() AS standby")[0]
            received = datetime.now(UTC)
            skew = preflight.clock_skew_s(row["now"], sent_at=sent, received_at=received)
            says = preflight.check_clock(
                skew, server_clock=row["now"], bastion_clock=received, max_skew_s=self.params["max_clock_skew_s"]
            )
            found.append(Check.ok("database clock", says))
            if row["standby"]:
                says = "This server is a standby, and maintenance writes; name the primary in db_login_host."
                found.append(Check.breach("database primary", says))
        if "backup.yml" in rules.wanted(self.jobs):
            with looking(found, "client pg_dump"):
                client = backup.find_client(
                    self.settings.get("bindir"), session.server_version, ssl_mode=session.target.ssl_mode
                )
                found.append(rules.judge_client(client.version, client.major, session.server_version))

    def extensions(self, found: list[Check], session: postgres.Session) -> None:
        """What the scheduled playbooks use of extensions."""
        if "monthly_db.yml" in rules.wanted(self.jobs):
            with looking(found, "pg_repack"):
                client, reason = compact.repack_client(session)
                version, offered = client.version if client else None, compact.offered_repack(session)
                power = compact.is_superuser(session)
                found.append(rules.judge_repack(version, reason or "", offered=offered, is_superuser=power))
            with looking(found, "pgstattuple"):
                found.append(rules.judge_measuring(bloat.measuring(session).fix, driver.unseen(session)))

    def rights(self, found: list[Check], user: str) -> None:
        """What a user's playbooks need, asked through a connection of that user."""
        playbooks, name = self.users[user], f"rights {user}"
        with looking(found, name), self.session(self.target("database", user)) as session:
            if not self.is_meant(session):
                raise RunbookError(
                    "Another cluster answered this user; see the check of the identity.", status=Status.UNKNOWN
                )
            pair = rules.archives(self.part("archives"))
            swaps, beats = not managed.is_platform(backup.read_roles(session)), "heartbeat.yml" in playbooks
            given = self.settings.get("cleanup") or [] if "daily_cleanup.yml" in playbooks else []
            cleaned = cleanup.read(given, kept=[], held=[], option="daily_cleanup_rules")[0] if given else []
            lacks, fix = driver.lacking(session, user, archives=pair, cleaned=cleaned, beats=beats, swaps=swaps)
            closed = content_hash.unread_large_objects(session) if user == "backup" else {}
            if closed:
                lacks.append(hashes.closed_large_objects(closed, session.target.user).rstrip("."))
            if user == "restore" and not swaps:
                # Its services hold their sessions, which only the platform can end.
                playbooks = [each for each in playbooks if each != "restore_swap.yml"]
                says = "A project's database keeps its name: instead of restore_swap.yml, restore into a fresh project."
                found.append(Check.ok("restore_swap", says))
            found.append(rules.judge_rights(user, session.target.user, playbooks, lacks, fix))

    def is_meant(self, session: postgres.Session) -> bool:
        """Whether this session is with the pinned cluster, too."""
        pinned = self.part("database").get("system_identifier")
        return not pinned or postgres.cluster_and_database(session)[0] == pinned

    def proof(self, found: list[Check]) -> None:
        """The server on which backups are proven."""
        target = self.target("proof", "proof")
        self.certificates(found, "proof", target)
        with looking(found, "proof"), self.session(target) as session:
            found.append(Check.ok("proof", f"{target}: PostgreSQL {session.server_version // 10_000}."))
            if not self.proves(found, "proof", session):
                return
            self.mark(found, "proof", session)
            row = session.query("SELECT rolsuper OR rolcreatedb AS may FROM pg_roles WHERE rolname = current_user")[0]
            lacks = [] if row["may"] else ["CREATEDB"]
            fix = "Give it CREATEDB there."
            found.append(rules.judge_rights("proof", target.user, ["backup_verify.yml"], lacks, fix))
            self.versions["proof"] = session.server_version
            self.roles["there"], self.roles["given"] = driver.roles_and_own(session)

    # The server of this host ------------------------------------------------------------------------------------------

    def host(self) -> list[Check]:
        """Which server it is, and what has to be there to update it: here, for one connection is one thread's."""
        part, environment, found = self.part("server"), str(self.settings.get("environment") or ""), []
        rest = ["server identity", "rights server", "server packages", "server proof"]
        try:
            machine_id, hostname, system = apt.identity()
        except RunbookError as error:
            return [
                Check("server", error.status, error.message),
                *(rules.not_asked(name, "the server gave no answer") for name in rest),
            ]
        found.append(Check.ok("server", f"{hostname} answers: {system or 'it does not say what it is'}."))
        own = "" if environment == "sandbox" else apt.own_machine_id()
        before = len(found)
        with looking(found, rest[0], self.names("server")):
            wanted = {"wanted_id": part.get("machine_id") or "", "wanted_name": part.get("hostname") or ""}
            server.check_identity(machine_id, hostname, own_id=own, **wanted)
            found.append(Check.ok(rest[0], f"{hostname} is the server that the inventory means."))
        if found[before].status != Status.OK and part.get("machine_id"):
            return found + [rules.not_asked(name, "another server answered") for name in rest[1:]]
        with looking(found, rest[1]):
            found.append(rules.judge_root(apt.is_root()))
        with looking(found, rest[2]):
            half, packages = apt.unfinished(), apt.installed()
            left = apt_rules.restarts(apt.needrestart(), packages, reboot_asked=apt.reboot_asked())
            wrong = apt_rules.judge_server(half, left, "")
            says = f"{count(len(packages), 'package')}, none half installed; needrestart answers."
            told = [Check(f"server {each.name}", each.status, each.msg) for each in wrong]
            found += told or [Check.ok(rest[2], says)]
        with looking(found, rest[3], self.names("server")):
            proof = part.get("proof_environment") or ""
            apt_rules.check_proof_environment(proof, environment, None)
            says = f"Updates have to be proven in {proof}." if proof else "Updates need no proof."
            found.append(Check.ok(rest[3], says))
        return found

    # Services --------------------------------------------------------------------------------------------------------

    def bucket(self, found: list[Check], name: str, demands: dict[str, Any]) -> None:
        """A bucket, as :mod:`s3_bucket_check` looks at it."""
        empty = dict.fromkeys(s3.argument_spec())
        store = s3.Store.from_params(empty | self.part(name))
        environment = str(self.settings.get("environment") or "")
        wanted = bucket_check.Demands(**demands)
        bucket_check.check_demands(wanted)
        judged = bucket_check.judge(bucket.read_settings(store), store.tags(), wanted, environment)
        found += rules.bucket(name.replace("_", " "), judged)

    def supabase(self, found: list[Check]) -> None:
        """The project at Supabase."""
        part = self.part("supabase")
        place = supabase_rules.Place.named(part.get("api_url") or supabase_driver.API_URL, part["project_ref"])
        api = supabase_driver.Supabase(
            api_url=place.api_url,
            project_ref=place.project_ref,
            access_token=part.get("access_token") or "",
            ca_cert=None,
            timeout_s=10,
            read_only=True,
        )
        project = supabase_rules.parse_project(api.project())
        says = supabase_rules.check_identity(project, ref=part["project_ref"], name=part.get("project_name") or "")
        found.append(Check.ok("supabase", says))

    def vercel(self, found: list[Check]) -> None:
        """The project at Vercel, and whether the token may read what rollbacks and rotations read."""
        defaults = {name: option.get("default") for name, option in vercel.argument_spec().items()}
        given = {name: value for name, value in self.part("vercel").items() if value is not None}
        api = vercel.Vercel.from_params(defaults | given | {"timeout_s": 10}, read_only=True)
        says = deployments.check_identity(api.project(), api.place, str(given.get("project_name") or ""))
        found.append(Check.ok("vercel", says))
        with looking(found, "rights vercel"):
            read = len(api.deployments(most=1)), len(api.env())
            found.append(Check.ok("rights vercel", f"Reads deployments and {count(read[1], 'environment variable')}."))

    def repository(self, found: list[Check]) -> None:
        """The application's repository, and whether the token may push to it."""
        defaults = {name: option.get("default") for name, option in git.argument_spec().items()}
        given = {name: value for name, value in self.part("repository").items() if value is not None}
        branch = git_rules.check_branch("branch", str(given.pop("branch", None) or "main"))
        with git.Repository.from_params(
            defaults | given | {"repository_timeout_s": self.params["timeout_s"]}, read_only=True
        ) as repository:
            first = repository.first_commit(branch)
            place = git_rules.Place.named(given["repository"], given.get("repository_root") or "")
            place.require(first)
            found.append(Check.ok("repository", f"{place.url} has {branch}, and begins with the pinned commit."))
            with looking(found, "rights repository"):
                repository.would_push(branch)
                found.append(Check.ok("rights repository", "A branch could be pushed; none was."))

    def logs(self, found: list[Check]) -> None:
        """Where log files are, and whether logrotate takes them; and what seals their archives."""
        part = self.part("logs")
        if part.get("seal_keys"):
            with looking(found, "logs keys", self.names("logs")):
                chain.Keys(part["seal_keys"])
        if not part.get("files"):
            return
        with looking(found, "logs", self.names("logs")):
            text = log_files.configuration(log_files.read(part["files"]))
            place = Host(part.get("ssh") or "", become=bool(part.get("become")))
            place.rotate(
                config=part["config"], state=part["state_file"], text=text, force=False, look=True,
                timeout_s=self.params["timeout_s"],
            )  # fmt: skip
            found.append(Check.ok("logs", f"{place.name}: logrotate takes {part['config']}."))

    def prometheus(self, found: list[Check]) -> None:
        """Whether it answers us."""
        part = self.part("prometheus")
        with looking(found, "prometheus", self.names("prometheus")):
            asked = dict.fromkeys(("prometheus_url", "prometheus_token", "prometheus_ca_cert")) | part
            prometheus.Prometheus.from_params(asked, timeout_s=10).now("vector(1)", at=self.now)
            found.append(Check.ok("prometheus", f"{part['prometheus_url']} answers."))

    def alertmanager(self, found: list[Check]) -> None:
        """Whether each of a cluster answers us."""
        asked = {"alertmanager_ca_cert": None} | self.part("alertmanager")
        for each in alertmanager.Alertmanager.from_params(asked, timeout_s=10):
            with looking(found, "alertmanager", self.names("alertmanager")):
                each.silenced()
                found.append(Check.ok("alertmanager", f"{each.url} answers."))

    def web(self, found: list[Check]) -> None:
        """Whether Lighthouse, Node.js and Chromium are here."""
        part = {name: value for name, value in self.part("web").items() if value is not None}
        if "tools_path" not in part:
            return
        with looking(found, "web tools", self.names("web")):
            defaults = {name: option.get("default") for name, option in browser.argument_spec().items()}
            browser.Tools(defaults | part, Clock(self.params["timeout_s"]))
            found.append(Check.ok("web tools", "Lighthouse, Node.js and Chromium are here."))

    def services(self) -> list[Check]:
        """Servers, buckets and services, all at once."""
        always = {"logs": self.logs, "prometheus": self.prometheus, "web": self.web}
        works: dict[str, Callable[[list[Check]], None]] = {
            name: work for name, work in always.items() if self.settings.get(name) is not None
        }
        if self.part("alertmanager").get("alertmanager_urls"):
            works["alertmanager"] = self.alertmanager
        if self.settings.get("database") is not None:
            works["database"] = self.database
        if self.part("vercel").get("project_id"):
            works["vercel"] = self.vercel
        if self.part("repository").get("repository"):
            works["repository"] = self.repository
        if self.part("proof").get("login_host"):
            works["proof"] = self.proof
        demands = rules.DEMANDS | {key: value for key, value in self.part("demands").items() if value is not None}
        of_logs = rules.DEMANDS | {key: value for key, value in self.part("logs_demands").items() if value is not None}
        for name, wanted in (
            ("bucket", demands), ("replica", rules.COPY), ("files", rules.COPY), ("logs_bucket", of_logs),
        ):  # fmt: skip
            if self.part(name).get("bucket"):
                works[name.replace("_", " ")] = partial(self.bucket, name=name, demands=wanted)
        if self.part("supabase").get("project_ref"):
            works["supabase"] = self.supabase
        checks = at_once(works, self.params["timeout_s"])
        if len(self.clusters) > 1:
            environment = str(self.settings.get("environment") or "")
            checks.append(rules.judge_proof_apart(self.clusters["database"], self.clusters["proof"], environment))
        if len(self.versions) > 1:
            checks.append(rules.judge_proof_server(self.versions["database"], self.versions["proof"]))
        if len(self.roles) == 4 and not managed.is_platform(self.roles["named"]):
            there, login = self.roles["there"], str(self.part("users")["proof"]["login_user"])
            missing, foreign = self.roles["named"] - there, self.roles["owners"] & there - self.roles["given"]
            checks.append(rules.judge_proof_roles(login, sorted(missing), sorted(foreign)))
        return checks


def core(context: Context) -> dict[str, Any]:
    """Look at everything, and fail where something is not ok."""
    context.require_bounds({"timeout_s": (5, 600), "certificate_days": (0, 3650), "max_clock_skew_s": (0, 86_400)})
    doctor = Doctor(context)
    of_host = doctor.host() if doctor.settings.get("server") is not None else []
    checks = [*doctor.machine(), *of_host, *doctor.services()]
    return context.conclude(checks, msg=rules.summary(checks))


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str"}
    server = {
        "type": "dict",
        "options": {
            "login_host": text,
            "login_port": {"type": "int", "default": 5432},
            "login_db": {"type": "str", "default": "postgres"},
            "ssl_mode": {"type": "str", "default": "verify-full"},
            "ca_cert": {"type": "path"},
            "system_identifier": text,
        },
    }
    user = {"type": "dict", "options": {"login_user": text, "login_password": {"type": "str", "no_log": True}}}
    store = {"type": "dict", "options": s3.argument_spec() | {"bucket": text}}
    names = {"type": "list", "elements": "str", "default": []}
    settings = {
        "environment": text,
        "scheduled_jobs": {"type": "dict"},
        "calendar": {"type": "dict"},
        "operations": {"type": "dict"},
        "archives": {"type": "dict", "options": {"source": text, "archive": text}},
        "cleanup": {"type": "list", "elements": "dict"},
        "database": server,
        "proof": server,
        "users": {
            "type": "dict",
            "options": dict.fromkeys(("maintain", "backup", "restore", "review", "admin", "proof"), user),
        },
        "bucket": store,
        "replica": store,
        "files": store,
        "demands": {"type": "dict"},
        "logs_bucket": store,
        "logs_demands": {"type": "dict"},
        "logs": {
            "type": "dict",
            "options": {
                "files": {"type": "list", "elements": "dict"},
                "config": text,
                "state_file": text,
                "ssh": text,
                "become": {"type": "bool"},
                "seal_keys": {"type": "list", "elements": "str", "no_log": True},
            },
        },
        "server": {"type": "dict", "options": dict.fromkeys(("hostname", "machine_id", "proof_environment"), text)},
        "prometheus": {"type": "dict", "options": prometheus.argument_spec()},
        "alertmanager": {
            "type": "dict",
            "options": {
                name: {key: value for key, value in option.items() if key != "default"}
                for name, option in alertmanager.argument_spec().items()
            },
        },
        "web": {
            "type": "dict",
            "options": {
                name: {"type": option["type"]}
                for name, option in browser.argument_spec().items()
                if name != "deadline_s"
            },
        },
        "supabase": {
            "type": "dict",
            "options": {
                "project_ref": text,
                "project_name": text,
                "access_token": {"type": "str", "no_log": True},
                "api_url": text,
            },
        },
        "bindir": {"type": "path"},
        "vercel": {
            "type": "dict",
            "options": {
                "project_id": text,
                "project_name": text,
                "team_id": text,
                "access_token": {"type": "str", "no_log": True},
                "api_url": text,
            },
        },
        "repository": {
            "type": "dict",
            "options": {"branch": text}
            | {
                name: {key: value for key, value in option.items() if key not in ("default", "required")}
                for name, option in git.argument_spec().items()
                if name.startswith("repository") and name != "repository_timeout_s"
            },
        },
    }
    seen = (
        "inventory_sources",
        "playbooks",
        "examples",
        "strays",
        "locked",
        "published",
        "plain",
        "change",
        "contacts",
        "refused",
        "unread",
    )
    role = {
        "role": text | {"required": True},
        "entries": {"type": "list", "elements": "str", "required": True},
        "operation": text,
        "unscheduled": text,
        "parts": {"type": "list", "elements": "str"},
    }
    found = {
        **dict.fromkeys(seen, names),
        "servers": {"type": "list", "elements": "dict", "default": []},
        "names": {"type": "dict", "default": {}},
        "unknown": {"type": "dict", "default": {}},
        "encrypted": {"type": "int", "default": 0},
    }
    run_module(
        core,
        name="runbook_doctor",
        # It looks at the record itself, as one of its checks.
        needs_record=False,
        argument_spec={
            "settings": {"type": "dict", "required": True, "options": settings},
            "roles": {"type": "list", "elements": "dict", "default": [], "options": role},
            "found": {"type": "dict", "default": {}, "options": found, "apply_defaults": True},
            "certificate_days": {"type": "int", "default": 30},
            "max_clock_skew_s": {"type": "int", "default": 10},
            "timeout_s": {"type": "int", "default": 60},
        },
    )


if __name__ == "__main__":
    main()
