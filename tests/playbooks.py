"""Playbooks run as an operator runs them: an inventory on disk, and the program ansible-playbook.

``Project.run`` forks it off a process that has imported Ansible before (``playbook_server.py``); ``Project.start``, for
what is to be killed or watched, starts it as a shell does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.change.checklist import EMERGENCY, OPERATIONS
from conftest import ROOT, Database, give_lease_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: What a small database reaches, as in inventories/sandbox.
SMALL = {
    "db_optimization_compact_min_size_bytes": 65_536, "db_optimization_reindex_min_size_bytes": 65_536,
    "db_performance_unused_after_days": 0, "db_performance_min_size_bytes": 65_536,
    "db_performance_min_bloat_bytes": 65_536, "backup_bucket_tls_only": False,
    "backup_bucket_block_public_access": False, "backup_verify_retention_days": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What a playbook run left behind."""

    code: int
    output: str
    #: Results of the modules, by the task's action name, in the order they came.
    results: dict[str, list[dict[str, Any]]]
    #: Folder of the run's record; None if there is none, or more than one.
    record: Path | None

    def last(self, module: str) -> dict[str, Any]:
        """The result of the last task that ran ``module``."""
        return self.results[module][-1]


@dataclass
class Project:
    """An inventory of databases, applications, servers and Prometheus, and a folder for the records of its runs."""

    folder: Path
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    all_vars: dict[str, Any] = field(default_factory=dict)
    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    monitoring: dict[str, dict[str, Any]] = field(default_factory=dict)
    awx: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Seconds after which a playbook that does not end is killed.
    patience_s: float = 120

    @classmethod
    def for_database(cls, folder: Path, database: Database, **variables: object) -> Project:
        """An inventory with the one host ``db``, its identity pinned, and the database's mark that belongs to it."""
        database.mark("sandbox")
        host = {
            "db_login_host": database.host,
            "db_login_port": database.port,
            "db_login_user": database.user,
            "db_login_db": database.name,
            "preflight_system_identifier": database.one("SELECT system_identifier::text FROM pg_control_system()"),
        }
        common = {
            "runbook_environment": "sandbox",
            "db_ssl_mode": "prefer",
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            # Production runs these as changes; most tests are about the work itself.
            "change_needs": {operation: [] for operation in OPERATIONS if operation != EMERGENCY},
        }
        return cls(folder, {"db": host}, common | variables)

    @classmethod
    def for_application(cls, folder: Path, **host: object) -> Project:
        """An inventory of a sandbox without databases, with the one application ``app``."""
        common = {
            "runbook_environment": "sandbox",
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        return cls(folder, {}, common, {"app": dict(host)})

    @contextmanager
    def least_privilege(self, database: Database) -> Iterator[Ended]:
        """Let db_roles.yml make the project's users, and every playbook in the block log in as them; what it said.

        The roles belong to the whole server, so they are gone afterwards, with their rights on this database.
        """
        users = {"runbook_bastion": "maintain", "runbook_dumper": "backup", "runbook_restorer": "restore"}
        self.all_vars |= {
            "db_roles_admin_user": database.user,
            "db_roles_users": [{"name": name, "role": role} for name, role in users.items()],
        }
        try:
            made = self.run("db_roles.yml")
            assert made.code == 0, made.output
            for host in self.hosts.values():
                host["db_login_user"] = "runbook_bastion"
            self.all_vars |= {"db_backup_login_user": "runbook_dumper", "db_restore_login_user": "runbook_restorer"}
            yield made
        finally:
            roles = [*users, "runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore"]
            there = {row[0] for row in database.run("SELECT rolname FROM pg_roles")}
            for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                database.run(*(statement.format(role) for role in roles if role in there))

    @property
    def inventory(self) -> Path:
        """The inventory's file, rewritten from the attributes."""
        path = self.folder / "hosts.yml"  # JSON is YAML
        groups = {
            "databases": self.hosts, "applications": self.applications, "servers": self.servers,
            "monitoring": self.monitoring, "awx": self.awx,
        }  # fmt: skip
        children = {name: {"hosts": hosts} for name, hosts in groups.items()}
        path.write_text(json.dumps({"all": {"vars": self.all_vars, "children": children}}))
        return path

    def command(self, playbook: str, *arguments: str, **variables: object) -> list[str]:
        """The command line; ``variables`` are given with ``-e``."""
        extra = ["-e", json.dumps(variables)] if variables else []
        return ["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks" / playbook), *extra, *arguments]

    def environ(self, **more: str) -> dict[str, str]:
        """The environment, with the records of the runs kept in this folder."""
        return (
            os.environ
            | {
                "RUNBOOK_RUNS_DIR": str(self.folder / "runs"),
                "RUNBOOK_PROGRESS": "off",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                "ANSIBLE_NOCOLOR": "1",
            }
            | more
        )

    def start(
        self, playbook: str, *arguments: str, environ: Mapping[str, str] | None = None, **variables: object
    ) -> subprocess.Popen[str]:
        """Start a playbook in a process of its own, and do not wait for it."""
        self._give_leases_back()
        return subprocess.Popen(
            self.command(playbook, *arguments, **variables),
            cwd=ROOT,
            env=self.environ(**(environ or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(
        self, playbook: str, *arguments: str, environ: Mapping[str, str] | None = None, **variables: object
    ) -> Ended:
        """Run a playbook to its end, in a fork of a process that has imported Ansible before."""
        known = self.records()
        self._give_leases_back()
        code, output = _in_fork(
            self.command(playbook, *arguments, **variables), self.environ(**(environ or {})), self.patience_s
        )
        return self._ended(code, output, known)

    def ended(self, process: subprocess.Popen[str], known: set[Path]) -> Ended:
        """Wait for a playbook that was started; ``known`` are the records from before."""
        try:
            output, _ = process.communicate(timeout=self.patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"The playbook did not end:\n{output}") from None
        return self._ended(process.returncode, output, known)

    def _ended(self, code: int, output: str, known: set[Path]) -> Ended:
        # Several playbooks of one process leave a record each.
        new = sorted(self.records() - known)
        return Ended(code, output, _results(new), new[0] if len(new) == 1 else None)

    def _give_leases_back(self) -> None:
        for host in self.hosts.values():
            port = host.get("db_login_port")
            if isinstance(port, int):
                give_lease_back(Database("127.0.0.1", port, str(host.get("db_login_db")), "postgres"))

    def records(self) -> set[Path]:
        """Folders of all records so far."""
        runs = self.folder / "runs"
        return {path.parent for path in runs.glob("*/journal.jsonl")} if runs.is_dir() else set()


@dataclass
class _Server:
    """A process of ``playbook_server.py``; there is one for each playbook that runs at the same time."""

    #: What Ansible reads as it is imported.
    settings: dict[str, str]
    process: subprocess.Popen[str]

    @classmethod
    def launch(cls, settings: dict[str, str], environ: dict[str, str]) -> _Server:
        """Start one in the project's root."""
        command = [sys.executable, str(Path(__file__).with_name("playbook_server.py"))]
        return cls(
            settings,
            subprocess.Popen(
                command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ),
        )  # fmt: skip

    def run(self, command: list[str], environ: dict[str, str], patience_s: float) -> tuple[int, str]:
        """Exit code and output of a run, which is killed with all that it started if it does not end in time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        arguments = [shutil.which(command[0]) or command[0], *command[1:]]
        self.process.stdin.write(json.dumps({"arguments": arguments, "environ": environ}) + "\n")
        self.process.stdin.flush()
        pid = json.loads(self.process.stdout.readline())["pid"]
        late = threading.Timer(patience_s, os.killpg, (pid, signal.SIGKILL))
        # Whoever is interrupted meanwhile need not wait for it.
        late.daemon = True
        late.start()
        answer = json.loads(self.process.stdout.readline())
        in_time = late.is_alive()
        late.cancel()
        assert in_time, f"The playbook did not end:\n{answer['output']}"
        return answer["code"], answer["output"]


_servers: list[_Server] = []


def _in_fork(command: list[str], environ: dict[str, str], patience_s: float) -> tuple[int, str]:
    own = ("HOME", "LANG", "PYTHON", "LC_", "ANSIBLE_")
    settings = {name: value for name, value in environ.items() if name.startswith(own)}
    del settings["ANSIBLE_LOCAL_TEMP"]  # each run reads it again
    server = _servers.pop() if _servers else None
    if server is None or server.settings != settings:
        server = _Server.launch(settings, environ)
    answer = server.run(command, environ, patience_s)
    _servers.append(server)
    return answer


def _results(records: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """What the modules said, as the run's journal keeps it: figures, ``msg``, ``state``, ``changed`` and ``host``."""
    results: dict[str, list[dict[str, Any]]] = {}
    modules: dict[str, str] = {}
    for line in (line for record in records for line in (record / "journal.jsonl").read_text().splitlines()):
        event = json.loads(line)
        if event["event"] == "task_start":
            modules[event["task"]] = event["module"].rpartition(".")[2]
        elif event["event"] == "result":
            said = event["figures"] | {key: event[key] for key in ("msg", "state", "changed", "host")}
            results.setdefault(modules[event["task"]], []).append(said)
    return results
