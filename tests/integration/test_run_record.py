"""The callback run_record in real runs of ansible-playbook: on small playbooks, in a project of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from conftest import ROOT
from record_samples import VALIDATOR
from terminal import screen

if TYPE_CHECKING:
    from pathlib import Path

TOY = '''#!/usr/bin/python
from __future__ import annotations
import os, time
from pathlib import Path
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import run_module


def core(context):
    options = context.params
    if options["sabotage"]:  # from now on the journal cannot grow, and nothing else is hindered
        import resource
        journal = Path(os.environ["RUNBOOK_RUN_DIR"]) / "journal.jsonl"
        os.truncate(journal, 64 * 1024 * 1024)
        controller = int(os.environ["RUNBOOK_CONTROLLER"].split("/")[1])
        resource.prlimit(controller, resource.RLIMIT_FSIZE, (64 * 1024 * 1024,) * 2)
    steps = max(1, round(options["seconds"] / 0.1))
    for number in range(steps + 1):
        context.progress.update("public.audit_log", number, steps, "rows", final=number == steps)
        time.sleep(options["seconds"] / steps)
    if options["fail"]:
        raise RunbookError(f"The toy broke; postgresql://app:{options['login_password']}@db said so.", moved_rows=5)
    seen = {name.lower(): value for name, value in os.environ.items() if name.startswith("RUNBOOK_")}
    return {
        "changed": not context.check_mode, "msg": "The toy ran.", "status": options["status"], "moved_rows": steps,
        "noise": [os.urandom(1950).hex() for _ in range(options["noise"])],
        "seen": seen, "echo": options["login_password"], "executed_queries": ["SELECT 1"],
    }


if __name__ == "__main__":
    run_module(core, name="toy", argument_spec={
        "seconds": {"type": "float", "default": 0}, "fail": {"type": "bool", "default": False},
        "status": {"type": "str", "default": "ok"}, "login_password": {"type": "str", "no_log": True},
        "sabotage": {"type": "bool", "default": False}, "noise": {"type": "int", "default": 0},
    })
'''  # fmt: skip


@dataclass
class Ended:
    """A run of ansible-playbook that is over."""

    code: int
    out: str
    err: str
    folders: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        (only,) = self.folders
        return only

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "record.json").read_text())
        VALIDATOR.validate(record)
        return record


class Project:
    """A project that has the real callback and module_utils, and a toy module."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "playbooks/callback_plugins").mkdir(parents=True)
        (root / "library").mkdir()
        shutil.copy(ROOT / "playbooks/callback_plugins/run_record.py", root / "playbooks/callback_plugins")
        shutil.copy(ROOT / "ansible.cfg", root)
        (root / "module_utils").symlink_to(ROOT / "module_utils")
        (root / "library/toy.py").write_text(TOY)
        self.inventory("db1", "db2")
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "ANSIBLE_"))
        }
        self.environ |= {"ANSIBLE_HOME": str(root / "home"), "TERM": "xterm"}

    def inventory(self, *hosts: str) -> None:
        lines = [
            "[databases]",
            *hosts,
            "[databases:vars]",
            "ansible_connection=local",
            "ansible_python_interpreter={{ ansible_playbook_python }}",
        ]
        (self.root / "inventory").write_text("\n".join(lines) + "\n")

    def playbook(self, *tasks: dict[str, Any], name: str = "toy", hosts: str = "databases", **play: Any) -> str:
        content = {
            "name": name,
            "hosts": hosts,
            "gather_facts": False,
            "environment": {"RUNBOOK_HOST": "{{ inventory_hostname }}"},
        }
        path = self.root / "playbooks" / f"{name}.yml"
        path.write_text(json.dumps([content | {"tasks": list(tasks)} | play]))
        return f"playbooks/{name}.yml"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ansible", "playbook", "-i", "inventory", *arguments]

    @property
    def folders(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob("runs/*/journal.jsonl"))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environ: str) -> Ended:
        before = self.folders
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err, [path for path in self.folders if path not in before])

    def render(self, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/render_record.py"), str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def on_board(project: Project) -> dict[str, str]:
    """State of each operation on the board."""
    (place,) = json.loads((project.root / "runs/board.json").read_text())["places"].values()
    return {each["name"]: each["state"] for each in place["operations"]}


def toy(**options: Any) -> dict[str, Any]:
    return {"name": "Play with the toy", "toy": options}


def test_two_hosts_side_by_side_and_two_playbooks_in_one_command(project):
    first = project.playbook(toy(seconds=1.5), name="first")
    second = project.playbook(toy(), name="second")
    ended = project.run(first, second)
    assert (ended.code, ended.err) == (0, "")
    one, two = (json.loads((path / "record.json").read_text()) for path in ended.folders)
    assert [one["playbook"], two["playbook"]] == ["first", "second"]
    assert one["run_id"] != two["run_id"]
    for record, folder in zip((one, two), ended.folders, strict=True):
        VALIDATOR.validate(record)
        assert (record["status"], list(record["hosts"])) == ("ok", ["db1", "db2"])
        for host in ("db1", "db2"):
            seen = record["hosts"][host]["steps"][0]["figures"]["seen"]
            assert seen["runbook_run_id"] == record["run_id"]
            assert seen["runbook_run_dir"] == str(folder)
            assert seen["runbook_controller"] == record["controller"]
            assert seen["runbook_host"] == host
            assert "runbook_journal_error" not in seen
        assert sorted(path.name for path in folder.iterdir()) == [
            "journal.jsonl",
            "metrics.prom",
            "record.json",
            "report.html",
            "report.md",
        ]
    samples = one["hosts"]["db2"]["steps"][0]["progress"]
    assert (samples[0]["done"], samples[-1]["done"], samples[-1]["total"]) == (0, 15, 15)
    assert sorted(path.name for path in (project.root / "runs/metrics").iterdir()) == [
        "board.prom",
        "first.prom",
        "second.prom",
    ]
    lines = ended.out.splitlines()
    assert lines.count("Board: runs/board.html") == 2
    assert on_board(project) == {"first": "ok", "second": "ok"}
    assert [line.split()[:2] for line in lines if line.startswith(("db1 ", "db2 ")) and "ok=" not in line] == [
        ["db1", "ok"],
        ["db2", "ok"],
    ] * 2
    reports = [line.removeprefix("Report: ") for line in lines if line.startswith("Report: ")]
    assert [project.root / path for path in reports] == [path / "report.html" for path in ended.folders]


def test_failed_rescued_and_unreachable(project):
    project.inventory("db1", "db2 ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1", "db3")
    playbook = project.playbook(
        {"block": [toy(fail=True)], "rescue": [toy()]},
        {"name": "Break one", "toy": {"fail": "{{ inventory_hostname == 'db1' }}", "login_password": "CANARY"}},
    )
    ended = project.run(playbook)
    assert ended.code in (2, 4)
    record = ended.record
    assert {name: host["status"] for name, host in record["hosts"].items()} == {
        "db1": "failed",
        "db2": "failed",
        "db3": "ok",
    }
    assert record["status"] == "failed"
    assert record["hosts"]["db3"]["steps"][0]["handled"] is True
    assert [error["host"] for error in record["errors"]] == ["db1", "db1", "db2"]
    assert "db1, Break one, failed: The toy broke" in " ".join(ended.err.split())
    assert "The toy broke" in record["errors"][1]["text"]
    assert record["hosts"]["db1"]["steps"][-1]["figures"]["moved_rows"] == 5


@pytest.mark.parametrize(("status", "task", "msg"), [
    ("breach", {}, "The toy ran."),
    ("breach", {"loop": [1], "failed_when": False}, "The toy ran."),
    ("unknown", {"loop": [1]}, "The toy ran."),
    ("unknown", {"no_log": True}, "What it said is hidden by no_log"),
    ("unknown", {"async": 60, "poll": 0}, "It was only started (poll: 0)"),
])  # fmt: skip
def test_a_bad_status_ends_red_though_no_task_failed(project, status, task, msg):
    ended = project.run(project.playbook(toy(status=status) | task), "--limit", "db1")
    assert ended.code == 1
    assert f"db1, Play with the toy, {status}: {msg}" in ended.err
    assert ended.record["limit"] == "db1"


@pytest.mark.parametrize("tail", [">/dev/full", "| true"])
def test_a_red_run_is_red_also_where_nothing_can_be_printed(project, tail):
    """Each page that is full is written at once, here amid the words of the end."""
    project.inventory("db1")
    playbook = project.playbook(toy(status="breach"))
    environ = project.environ | {"PYTHONUNBUFFERED": "1"}
    command = f'{shlex.join(project.command(playbook))} {tail}; exit "${{PIPESTATUS[0]}}"'
    code = subprocess.run(
        ["bash", "-c", command], cwd=project.root, env=environ, capture_output=True, timeout=120, check=False
    ).returncode
    assert code != 0
    (folder,) = project.folders
    assert json.loads((folder / "record.json").read_text())["status"] != "ok"


def test_no_host_and_no_task_end_red(project):
    ended = project.run(project.playbook(toy(), hosts="databases:!all"))
    assert ended.code == 1
    assert "Nothing was done: no host matched databases:!all." in ended.err
    assert ended.record["status"] == "failed"
    ended = project.run(project.playbook(toy()), "--tags", "mispelt")
    assert ended.code == 1
    assert "Nothing was done: --tags mispelt names no step of" in ended.err
    assert ended.record["tags"] == ["mispelt"]


def test_a_tag_of_another_playbook_of_the_command_line_is_no_misspelt_one(project):
    both = [project.playbook(toy() | {"tags": [name]}, name=name) for name in ("first", "second")]
    ended = project.run(*both, "--tags", "first,second")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.folders) == 2
    ended = project.run(*both, "--tags", "first,secnd")
    assert "Nothing was done: --tags secnd names no step of first.yml" in ended.err


def test_an_error_of_ansibles_own_is_told_as_such(project):
    """It ends a run without its statistics, as Ctrl-C does, and may have no message."""
    path = project.root / project.playbook(toy())
    path.write_text(json.dumps([*json.loads(path.read_text()), {"hosts": "{{ nowhere }}", "tasks": []}]))
    ended = project.run("playbooks/toy.yml")
    assert ended.code != 0
    assert "was stopped by an error of Ansible's own" in " ".join(ended.err.split())
    ended = project.run(project.playbook(toy(), {"ansible.builtin.include_tasks": "nowhere.yml"}))
    assert "Could not find or access" in ended.record["errors"][0]["text"]


def test_check_mode_is_no_run_for_the_metrics(project):
    ended = project.run(project.playbook(toy()), "--check", "--diff")
    assert ended.code == 0
    assert ended.record["check_mode"] is ended.record["diff_mode"] is True
    assert "Check mode: nothing was written" in (ended.folder / "report.html").read_text()
    assert not (project.root / "runs/metrics").exists()


def test_without_a_journal_the_modules_are_told_and_the_run_ends_red(project):
    (project.root / "runs").write_text("a file where the folder should be")
    ended = project.run(project.playbook(toy()), "-v", "--limit", "db1")
    assert ended.code == 1
    assert ended.err.count("The run's journal cannot be written in") >= 1
    assert "Not a directory" in ended.err
    assert "so nothing else is: The run's journal cannot be written" in " ".join(ended.out.split())
    assert '"runbook_run_id"' not in ended.out


def test_a_journal_that_fails_in_the_middle(project):
    playbook = project.playbook(toy(sabotage=True), toy())
    ended = project.run(playbook, "-v", "--limit", "db1")
    assert ended.code == 1
    assert "File too large" in ended.err
    first, second = ended.out.split("TASK [Play with the toy]")[1:]
    assert '"runbook_run_dir"' in first
    assert "record cannot be written, so nothing else is" in " ".join(second.split())
    assert '"runbook_run_dir"' not in second
    assert not (ended.folder / "record.json").exists()


def running(project: Project, playbook: str) -> subprocess.Popen[str]:
    """A run whose toy is at play."""
    process = project.start(playbook, "--limit", "db1")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if any('"progress"' in (path / "journal.jsonl").read_text() for path in project.folders):
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate(timeout=5))


def watchdog(process: subprocess.Popen[str]) -> psutil.Process:
    """What outlives ansible-playbook: the first process that it began."""
    return min(psutil.Process(process.pid).children(), key=psutil.Process.create_time)


def test_killed_together_with_all_that_would_outlive_it(project):
    playbook = project.playbook(toy(seconds="{{ seconds | default(5) }}"))
    process = running(project, playbook)
    (folder,) = project.folders
    assert "still going on" in project.render(folder).stderr
    watchdog(process).kill()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while (rendered := project.render(folder)).returncode and time.monotonic() < deadline:
        time.sleep(0.1)  # its module outlives it, and holds the journal's lock
    assert rendered.stdout.startswith("unknown: The run was cut off; the journal ends at")
    record = json.loads((folder / "record.json").read_text())
    VALIDATOR.validate(record)
    assert (record["status"], record["interrupted"], record["hosts"]["db1"]["steps"][0]["state"]) == (
        "unknown",
        True,
        "running",
    )
    (folder / "record.json").unlink()
    other = project.run(project.playbook(toy(), name="other"))
    assert (other.code, on_board(project)) == (0, {"toy": "did not end", "other": "ok"})
    ended = project.run(playbook, "-e", "seconds=0")
    assert (ended.code, on_board(project)) == (0, {"toy": "ok", "other": "ok"})
    assert f"The earlier run {folder.name} was cut off" in ended.record["notes"][0]


def test_a_killed_run_has_its_report_all_the_same(project):
    process = running(project, project.playbook(toy(seconds=2)))
    last = watchdog(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    psutil.wait_procs([last], timeout=60)
    assert not last.is_running()
    record = json.loads((project.folders[0] / "record.json").read_text())
    VALIDATOR.validate(record)
    assert (record["status"], record["interrupted"]) == ("unknown", True)
    assert record["verdict"].startswith("ansible-playbook was killed before its end, at ")
    assert (project.folders[0] / "report.html").exists()
    assert not (project.folders[0] / "permits.jsonl").exists()
    assert on_board(project) == {"toy": "did not end"}


def test_a_board_that_cannot_be_made_is_a_warning_and_the_run_is_what_it_was(project):
    (project.root / "runs").mkdir()
    (project.root / "runs/board-index.json").write_text('{"schema": "runbook-board", "schema_version": 2}')
    ended = project.run(project.playbook(toy()))
    assert (ended.code, ended.record["status"], "Board:" in ended.out) == (0, "ok", False)
    assert "The board is older than this run." in ended.err
    assert "update the project here" in " ".join(ended.err.split())


@pytest.mark.parametrize("status", ["ok", "unknown"])
def test_a_lease_of_which_nobody_knows_whether_it_was_given_back_is_a_warning(project, status):
    """What would give it back is gone."""
    (project.root / "library/pg_preflight.py").write_text(TOY.replace('"seen": seen', '"lease": {"decision": "taken"}'))
    process = running(project, project.playbook({"name": "Look", "pg_preflight": {}}, toy(status=status, seconds=2)))
    watchdog(process).kill()
    _out, err = process.communicate(timeout=60)
    record = json.loads((project.folders[0] / "record.json").read_text())
    text = "db1: whether the lease was given back is unknown; it ends by itself within 15 minutes."
    assert [warning["text"] for warning in record["warnings"]] == [text]
    assert (process.returncode, record["status"]) == (int(status != "ok"), status)
    assert err.count(text) == 1


def test_stopped_by_ctrl_c(project):
    process = running(project, project.playbook(toy(seconds=30)))
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    record = json.loads((project.folders[0] / "record.json").read_text())
    VALIDATOR.validate(record)
    assert record["status"] in ("unknown", "failed")
    assert record["verdict"].startswith("The run was stopped by Ctrl-C before its end, at ")


#: As from Python 3.12 on: nothing is forked, and no thread begins, once the interpreter ends.
ENDING = """
import atexit, os, threading
register = atexit.register
def refuse(*_arguments):
    raise RuntimeError("can't create new thread at interpreter shutdown")
def ending(act, *given, **named):
    def run(*given, **named):
        os.fork = threading.Thread.start = refuse
        return act(*given, **named)
    register(run, *given, **named)
    return act
atexit.register = ending
"""


def test_ctrl_c_where_nothing_can_be_begun_as_the_interpreter_ends(project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ENDING)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    project.environ = project.environ | {"PYTHONPATH": str(tmp_path)}
    playbook = project.playbook(toy(seconds=30), vars={"state_directory": str(state), "runbook_environment": "sandbox"})
    process = running(project, playbook)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    record = json.loads((project.folders[0] / "record.json").read_text())
    assert record["warnings"] == []
    assert list(state.glob("sandbox/records/*.json")), output


def test_no_secret_in_the_record(project):
    derived = "echo {{ lookup('env', 'X') }}CANARY-out; echo CANARY-err >&2; exit 1"
    playbook = project.playbook(
        toy(login_password="CANARY-option", fail=True) | {"ignore_errors": True},
        toy(login_password="CANARY-option"),
        {"name": "Foreign", "ansible.builtin.shell": derived, "ignore_errors": True},
        {"name": "Hidden", "ansible.builtin.debug": {"msg": "CANARY-hidden"}, "no_log": True},
        {
            "name": "Said",
            "ansible.builtin.fail": {"msg": "connect password=CANARY-said and CANARY-environ"},
            "ignore_errors": True,
        },
        {"name": "Loop", "ansible.builtin.debug": {"msg": "CANARY {{ item }}"}, "loop": ["CANARY-1", "CANARY-2"]},
        environment={"PGPASSWORD": "CANARY-environ"},
    )
    ended = project.run(playbook, "-vvv", "--diff", "--limit", "db1", ANSIBLE_DISPLAY_ARGS_TO_STDOUT="1")
    assert ended.code == 0
    assert "CANARY-option" not in ended.out + ended.err
    kept = [path for path in (project.root / "runs").rglob("*") if path.is_file()]
    assert {"journal.jsonl", "record.json", "report.html", "report.md"} <= {path.name for path in kept}
    for path in kept:
        text = path.read_text().replace(derived, "")
        assert "CANARY" not in text, path.name
        assert "module_args" not in text
    steps = ended.record["hosts"]["db1"]["steps"]
    assert [step["state"] for step in steps] == ["failed", "changed", "failed", "ok", "failed", "ok"]
    assert steps[0]["msg"] == "The toy broke; postgresql://app:********@db said so."


def on_a_terminal(project: Project, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run on a pseudo terminal of 80 × 24; the exit code and all that was written to it."""
    pid, leader = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        command = project.command(*arguments)
        os.execve(command[0], command, project.environ | environ)  # noqa: S606 - no shell wanted
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    raw = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        raw += chunk
    os.close(leader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), raw.decode()


@pytest.mark.parametrize("flags", [(), ("-v", "--diff")])
def test_bars_on_a_terminal_leave_no_trace(project, flags):
    playbook = project.playbook(
        {
            "name": "Uneven",
            "toy": {
                "seconds": "{{ 0.6 if inventory_hostname == 'db1' else 1.2 }}",
                "fail": "{{ inventory_hostname == 'db2' }}",
            },
        },
        toy(seconds=0.4),
    )
    code, raw = on_a_terminal(project, playbook, *flags, ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1")
    assert code == 2
    assert "━" in raw
    assert "public.audit_log" in raw
    lines = screen(raw)
    assert not [line for line in lines if "━" in line]
    quiet, plain = on_a_terminal(project, playbook, *flags, ANSIBLE_NOCOLOR="1", RUNBOOK_PROGRESS="off")
    assert quiet == code
    assert "━" not in plain

    def comparable(shown: list[str]) -> list[str]:
        """Lines without what differs from run to run: times, names of runs, and who came first."""
        return sorted(
            line for line in shown if "runbook_" not in line and not line.startswith(("db1  ", "db2  ", "Report: "))
        )

    assert [line for line in comparable(lines) if line.startswith(("TASK", "PLAY", "changed", "db1 ", "[ERROR]"))] == [
        line for line in comparable(screen(plain)) if line.startswith(("TASK", "PLAY", "changed", "db1 ", "[ERROR]"))
    ]


# --- copies of records ------------------------------------------------------------------------------------------------


def with_store(project: Project, **variables: Any) -> None:
    """Let the inventory name a state store."""
    (project.root / "group_vars").mkdir()
    (project.root / "group_vars/all.yml").write_text(json.dumps({"runbook_environment": "sandbox"} | variables))


def test_a_copy_of_the_record_is_in_the_bucket(project, s3):
    bucket = s3.bucket()
    given = {f"state_{name}": value for name, value in s3.options(bucket).items()}
    with_store(project, **given | {"state_prefix": "team", "state_secret_key": "{{ hidden }}", "hidden": s3.secret_key})
    ended = project.run(project.playbook(toy()))
    assert (ended.code, ended.err) == (0, "")
    key = f"team/records/{ended.record['run_id']}.json"
    copy = json.loads(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    assert (copy["body"], copy["run_id"]) == (ended.record, ended.record["run_id"])
    kept = "".join(path.read_text() for path in [*ended.folder.iterdir(), *(project.root / "runs").glob("board*")])
    assert s3.secret_key not in kept + ended.out + json.dumps(copy)
    # A bastion, CI and AWX have one board.
    project.environ["RUNBOOK_RUNS_DIR"] = str(project.root / "elsewhere")
    assert project.run(project.playbook(toy(), name="other")).code == 0
    (place,) = json.loads((project.root / "elsewhere/board.json").read_text())["places"].values()
    assert {each["name"]: each["state"] for each in place["operations"]} == {"toy": "ok", "other": "ok"}


def test_copies_are_of_red_runs_too_and_of_no_plan(project):
    state = project.root / "state"
    state.mkdir(mode=0o700)
    with_store(project, state_directory=str(state))
    failed = project.run(project.playbook(toy(fail=True)))
    assert (failed.code, failed.record["status"]) == (2, "failed")
    nobody = project.run(project.playbook(toy(), hosts="databases:!all"))
    assert nobody.code == 1
    assert project.run(project.playbook(toy()), "--check").code == 0
    copies = [json.loads(path.read_text())["body"] for path in sorted((state / "sandbox/records").iterdir())]
    assert copies == [failed.record, nobody.record]


def test_a_run_whose_record_the_store_does_not_take_is_on_the_board_of_other_places(project):
    state = project.root / "state"
    state.mkdir(mode=0o700)
    with_store(project, state_directory=str(state))
    # More than 4 MiB, compressed.
    ended = project.run(project.playbook(toy(noise=1900, fail=False)), "--limit", "db1")
    assert (ended.code, ended.record["status"]) == (0, "ok")
    (warning,) = ended.record["warnings"]
    assert "a document of the state store at most 4194304, compressed" in warning["text"]
    assert not (state / "sandbox/records").exists()
    project.environ["RUNBOOK_RUNS_DIR"] = str(project.root / "elsewhere")
    assert project.run(project.playbook(toy(), name="other")).code == 0
    found = json.loads((project.root / "elsewhere/board.json").read_text())
    (place,) = found["places"].values()
    assert {each["name"]: each["state"] for each in place["operations"]} == {"toy": "ok", "other": "ok"}
    assert found["notes"] == json.loads((project.root / "runs/board.json").read_text())["notes"] == []


@pytest.mark.parametrize(("variables", "word", "is_red"), [
    ({"state_directory": "{{ inventory_dir }}/not-there"}, "is not there; mount it", True),
    ({"state_directory": "{{ nowhere }}"}, "state_directory: what it refers to cannot be read", False),
    ({"state_bucket": "b", "state_endpoint_url": "http://127.0.0.1:1", "state_region": "us-east-1",
      "state_access_key": "k", "state_secret_key": "CANARY-1234"}, "no server answers there", False),
])  # fmt: skip
def test_a_state_store_that_fails_is_a_warning_and_the_run_is_what_it_was(project, variables, word, is_red):
    with_store(project, **variables)
    ended = project.run(project.playbook(toy(fail=is_red)))
    assert (ended.code, ended.record["status"]) == ((2, "failed") if is_red else (0, "ok"))
    assert word in " ".join(ended.err.split())
    (warning,) = ended.record["warnings"]
    assert warning["text"].startswith("The state store has no copy of this run's record.")
    assert word in warning["text"]
    assert "has no copy" in (ended.folder / "report.md").read_text()
    assert ended.record["ended_at"] == ended.record["last_event_at"]
    assert "CANARY" not in ended.out + ended.err + (ended.folder / "journal.jsonl").read_text()
