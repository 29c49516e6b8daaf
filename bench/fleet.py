"""A weekly run that finds nothing to do, on 1, 10, 100 and 300 databases, beside Ansible's own floor.

``python -m bench.fleet`` fills its table of bench/README.md; it takes about half an hour and 5 GB. The floor is a play
of as many trivial modules (``ansible.builtin.ping``) over the same inventory, the way in which Ansible runs any module.
The CPU seconds are those of ansible-playbook and all that it starts, so they can be compared on a busy machine too; the
server's own are not among them. Memory is the peak of ansible-playbook's own process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import ROOT, Server, peak_memory
from bench.weekly import write_tables

HOSTS = (1, 10, 100, 300)
#: As many module calls as weekly_db.yml makes: preflight without and with its target, archive, vacuum, release.
MODULES = 5


@dataclass(frozen=True)
class Cost:
    """What a run of ansible-playbook took."""

    wall_s: float
    cpu_s: float
    memory_bytes: int


def timed(words: list[str], environ: dict[str, str]) -> Cost:
    """Run a command with all that it starts; its output is shown where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    memory = [0]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT, text=True)
        watcher = peak_memory(process, memory)
        process.wait()
        wall = time.perf_counter() - started
        watcher.join()
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{output.read()[-6000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory[0])


class Fleet:
    """Many small tidy databases of one server."""

    def __init__(self, there: Server, most: int) -> None:
        self.there = there
        self.identifier = there.run("SELECT system_identifier::text FROM pg_control_system()")[0][0]
        known = {name for (name,) in there.run("SELECT datname FROM pg_database")}
        for number in range(most):
            if f"fleet_{number}" not in known:
                there.run(
                    f"CREATE DATABASE fleet_{number} TEMPLATE fleet",
                    f"ALTER DATABASE fleet_{number} SET runbook.environment = 'sandbox'",
                )

    def inventory(self, count: int) -> dict[str, Any]:
        """An inventory of ``count`` of them."""
        return {
            "databases": {
                "hosts": {f"db{number:05}": {"db_login_db": f"fleet_{number}"} for number in range(count)},
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                    "runbook_environment": "sandbox",
                    "preflight_system_identifier": self.identifier,
                    "db_login_host": "127.0.0.1",
                    "db_login_port": self.there.cluster.port,
                    "db_login_user": self.there.cluster.superuser,
                    "db_login_password": "",
                    "db_ssl_mode": "disable",
                },
            }
        }


def build(there: Server) -> None:
    """Make the template of a server with the one database of which all others are copies."""
    import psycopg2
    from ansible.module_utils.runbook.rules.sandbox import demo_database

    def fill() -> None:
        there.run("CREATE DATABASE fleet")
        connection = psycopg2.connect(
            host="127.0.0.1", port=there.cluster.port, user=there.cluster.superuser, dbname="fleet"
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in demo_database.statements(scale=0.01, seed=1):
                cursor.execute(statement)
        connection.close()

    there.template("fleet", fill)


def measure(fleet: Fleet, counts: list[int], repeat: int) -> list[list[str]]:
    """The rows of the table."""
    rows = []
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder:
        environ["RUNBOOK_RUNS_DIR"] = f"{folder}/runs"
        floor = Path(folder) / "floor.yml"
        tasks = [{"name": f"Trivial module {number}", "ansible.builtin.ping": {}} for number in range(MODULES)]
        floor.write_text(json.dumps([{"hosts": "databases", "gather_facts": False, "tasks": tasks}]))
        for count in counts:
            inventory = Path(folder) / f"{count}.json"
            inventory.write_text(json.dumps(fleet.inventory(count)))
            play = ["ansible-playbook", "-i", str(inventory)]
            timed([*play, "playbooks/weekly_db.yml"], environ)  # the first run does what there is to do
            found = defaultdict(list)
            for _ in range(repeat):
                found["floor"].append(timed([*play, str(floor)], environ))
                found["ours"].append(timed([*play, "playbooks/weekly_db.yml"], environ))
            rows.append(_row(count, **found))
            print("  fleet:", rows[-1], flush=True)
    return rows


_HEAD = [
    *(head for unit in ("wall s", "CPU s") for head in (f"floor, {unit}", f"ours, {unit}", "× floor", "a database")),
    "floor, peak MB",
    "ours, peak MB",
]


def _row(count: int, floor: list[Cost], ours: list[Cost]) -> list[str]:
    cells = [str(count)]
    for field in ("wall_s", "cpu_s"):
        least, mine = (statistics.median(getattr(each, field) for each in of) for of in (floor, ours))
        cells += [f"{least:.1f}", f"{mine:.1f}", f"{mine / least:.2f}", f"{mine / count:.2f}"]
    return [*cells, *(f"{max(each.memory_bytes for each in of) / 1e6:.0f}" for of in (floor, ours))]


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="*", default=list(HOSTS), help="how many databases")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the table shows medians")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where the cluster lies")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    there = Server(arguments.folder)
    try:
        build(there)
        there.fresh("fleet", warm=False)
        rows = measure(Fleet(there, max(arguments.hosts)), arguments.hosts, arguments.repeat)
    finally:
        there.stop()
    report = [
        "### A weekly run that finds nothing to do",
        "",
        f"| databases | {' | '.join(_HEAD)} |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    if arguments.hosts == list(HOSTS):
        write_tables("fleet", [*report, ""])
    else:
        print("\n".join(report))


if __name__ == "__main__":
    main()
