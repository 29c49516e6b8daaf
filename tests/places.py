"""A playbook run at the places where people run it: on a bastion, from another folder, and under ansible-runner.

AWX gives ansible-runner a private folder: the project without its ``.git``, the inventory in a folder of its own, extra
variables in a file. It sends that as a stream (``transmit``) into a container, where another ansible-runner
(``worker``) runs ansible-playbook on a pseudo terminal, and gets events and artifacts back (``process``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playbooks import Project

BIN = Path(sys.executable).parent
#: A user id that no line of /etc/passwd knows. Files of the tests' user are its own.
STRANGER = ("unshare", "--user", "--map-user=4711", "--map-group=4711")
#: What a run needs of the project; tests, documents and molecule are not among it.
FOLDERS = ("playbooks", "roles", "library", "module_utils", "monitoring", "ansible.cfg")


@cache
def can_be_stranger() -> bool:
    """Whether this machine lets a process have another user id in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*STRANGER, "true"], capture_output=True, check=False).returncode == 0


def copy_of_project(folder: Path) -> Path:
    """The project as AWX checks it out, without ``.git``, and nobody can write there; links stay links."""
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    let_write(folder, 0o555)
    return folder


def let_write(folder: Path, mode: int) -> None:
    """Give every folder of a tree this mode."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(mode)


@dataclass
class Ended:
    """What a run left behind, wherever it was."""

    code: int
    output: str
    #: Folder of the run's record; None where there is none, or more than one.
    folder: Path | None
    #: What AWX shows as the artifacts of the job.
    artifacts: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file("record.json"))
        return found

    def file(self, name: str) -> str:
        """What a file of the run says."""
        assert self.folder is not None, self.output
        return (self.folder / name).read_text()

    def steps(self) -> list[tuple[Any, ...]]:
        """What was done, without what differs from run to run."""
        return [
            (host, step["task"], step["module"], step["state"], step["status"])
            for host, of_host in self.record["hosts"].items()
            for step in of_host["steps"]
        ]


def _environ(folder: Path, **more: str) -> dict[str, str]:
    """Nothing of the tests' own environment but the way to the programs."""
    environ = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        # Nothing can be written there.
        "HOME": "/proc/nowhere",
        "ANSIBLE_HOME": str(folder / "ansible"),
        "RUNBOOK_PROGRESS": "off",
        "LANG": "C.UTF-8",
    }
    return environ | more


def _only(folder: Path) -> Path | None:
    found = [path.parent for path in folder.glob("*/journal.jsonl")]
    return found[0] if len(found) == 1 else None


def from_elsewhere(
    project: Path, inventory: Project, playbook: str, *arguments: str, variables: Mapping[str, object] | None = None
) -> Ended:
    """Run a playbook of ``project`` from a folder without ansible.cfg, as a user that this machine does not know."""
    folder = inventory.folder / "elsewhere"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [
        *(STRANGER if can_be_stranger() else ()),
        "ansible-playbook", "-i", str(inventory.inventory), str(project / "playbooks" / playbook),
        "-e", json.dumps(dict(variables or {})), *arguments,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=_environ(folder, RUNBOOK_RUNS_DIR=str(folder / "runs")), check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, _only(folder / "runs"))


def under_runner(
    project: Path,
    inventory: Project,
    playbook: str,
    *arguments: str,
    variables: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Ended:
    """Run a playbook as a job of AWX, as a user that this machine does not know.

    :param environ: what AWX sets in the environment of the job
    """
    folder = inventory.folder / "runner"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("private/env", "private/inventory", "worker", "control"):
        (folder / name).mkdir(parents=True)
    private = folder / "private"
    shutil.copytree(project, private / "project", symlinks=True, copy_function=os.link)
    # What is unpacked from the stream has these modes too.
    let_write(private / "project", 0o755)
    shutil.copy(inventory.inventory, private / "inventory/hosts")
    (private / "env/extravars").write_text(json.dumps(dict(variables or {})))
    (private / "env/envvars").write_text(json.dumps(dict(environ or {})))
    (private / "env/cmdline").write_text(" ".join(arguments))
    runner = str(BIN / "ansible-runner")
    sent = subprocess.run(
        [runner, "transmit", str(private), "-p", f"playbooks/{playbook}", "--ident", "42"],
        env=_environ(folder), stdout=subprocess.PIPE, check=True, timeout=600, cwd=folder,
    ).stdout  # fmt: skip
    stranger = STRANGER if can_be_stranger() else ()
    worked = subprocess.run(
        [*stranger, runner, "worker", "--private-data-dir", str(folder / "worker")],
        env=_environ(folder), input=sent, stdout=subprocess.PIPE, check=False, timeout=600,
    ).stdout  # fmt: skip
    subprocess.run(
        [runner, "process", str(folder / "control"), "--ident", "42"],
        env=_environ(folder), input=worked, stdout=subprocess.DEVNULL, check=False, timeout=600,
    )  # fmt: skip
    came_back = folder / "control/artifacts/42"
    events = [json.loads(path.read_text()) for path in came_back.glob("job_events/*.json")]
    ends = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    return Ended(
        int((came_back / "rc").read_text()),
        (came_back / "stdout").read_text(),
        _only(came_back / "runs"),
        ends[-1].get("artifact_data", {}) if ends else {},
    )
