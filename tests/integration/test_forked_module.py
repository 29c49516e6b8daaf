"""A module that runs in a fork of Ansible's worker gives what it gives when Ansible runs it, and dies as alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PLUGINS = ROOT / "playbooks/action_plugins"
CANARY = "canary-8c1f"
TOY = '''#!/usr/bin/python
"""A module that does as it is told."""
import os, signal, sys, time
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.errors import RunbookError

COUNT = []


def main():
    module = AnsibleModule(
        {"act": {"default": "ok"}, "number": {"type": "int"}, "secret": {"no_log": True}}, supports_check_mode=True
    )
    act = module.params["act"]
    if act == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "raises":
        raise RunbookError("an error that nobody caught")
    if act == "silent":
        sys.exit(3)
    if act == "waits":
        open(os.environ["TOY_PID"] + os.environ["TOY_HOST"], "w").close()
        while not os.path.exists(os.environ["TOY_PID"] + "-go"):
            time.sleep(0.05)
    if act == "slow":
        open(os.environ["TOY_PID"], "w").write(str(os.getpid()))
        time.sleep(60)
    COUNT.append(1)
    module.warn("careful")
    if act == "fails":
        module.fail_json(msg=f"it failed with {module.params['secret']}", number=module.params["number"])
    os.write(2, b"a word on the error stream\\n")
    module.exit_json(
        changed=True,
        msg=f"ok with {module.params['secret']}",
        number=module.params["number"],
        check=module.check_mode,
        diff={"before": "a", "after": "b"} if module._diff else {},
        host=os.environ.get("TOY_HOST"),
        calls=len(COUNT),
        is_fork="ansible.cli" in sys.modules,
        # More than a pipe holds at once.
        long="x" * 300_000,
    )


if __name__ == "__main__":
    main()
'''


@dataclass
class Project:
    """A project with the real plugin and a toy module."""

    root: Path
    #: The playbook is written, and not run.
    starts_only: bool = False

    def __post_init__(self) -> None:
        plugins = self.root / "playbooks/action_plugins"
        plugins.mkdir(parents=True)
        shutil.copy(PLUGINS / "forked_module.py", plugins)
        (plugins / "toy.py").symlink_to("forked_module.py")
        (self.root / "library").mkdir()
        (self.root / "library/toy.py").write_text(TOY)
        (self.root / "module_utils").symlink_to(ROOT / "module_utils")
        shutil.copy(ROOT / "ansible.cfg", self.root)
        # The same Python by another name is, as far as anybody can tell, another Python.
        (self.root / "python").symlink_to(sys.executable)

    def run(self, *arguments: str, task: dict[str, Any] | None = None, **options: Any) -> Any:
        """Run the toy on two hosts; its results by host."""
        return {host: said[0] for host, said in self.run_each([options], *arguments, task=task).items()}

    def run_each(
        self,
        toys: list[dict[str, Any]],
        *arguments: str,
        forked: bool = True,
        task: dict[str, Any] | None = None,
    ) -> dict[str, list[Any]]:
        """Run the toy with each of these options, one after the other in one playbook; its results by host."""
        python = "{{ ansible_playbook_python }}" if forked else str(self.root / "python")
        variables = f"ansible_connection=local ansible_python_interpreter='{python}'"
        (self.root / "hosts").write_text(f"a {variables}\nb {variables}\n")
        kept = self.root / "results-{{ inventory_hostname }}.json"
        said = ", ".join(f"said_{n}" for n in range(len(toys)))
        play = {
            "hosts": "all",
            "gather_facts": False,
            "environment": {"TOY_HOST": "{{ inventory_hostname }}", "TOY_PID": str(self.root / "pid")},
            "tasks": [
                *(
                    {"name": f"Toy {n}", "toy": options, "register": f"said_{n}", "ignore_errors": True} | (task or {})
                    for n, options in enumerate(toys)
                ),
                {
                    "name": "Keep",
                    "ansible.builtin.copy": {"content": f"{{{{ [{said}] | to_json }}}}", "dest": str(kept)},
                    "check_mode": False,
                },
            ],
        }
        (self.root / "playbooks/toy.yml").write_text(json.dumps([play]))
        if self.starts_only:
            return {}
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "ANSIBLE_"))}
        done = subprocess.run(
            ["ansible-playbook", "-i", "hosts", "playbooks/toy.yml", *arguments],
            cwd=self.root, env=environ | {"ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.output = done.stdout + done.stderr
        assert done.returncode == 0, self.output
        return {host: json.loads((self.root / f"results-{host}.json").read_text()) for host in "ab"}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_each_module_has_its_link_and_nothing_else_has_one():
    modules = {path.name for path in (ROOT / "library").glob("*.py")}
    ways = {"forked_module.py", "server_module.py"}
    links = {path.name: path for path in PLUGINS.glob("*.py") if path.name not in ways}
    assert set(links) == modules
    # These read variables themselves, and then go the same way.
    assert not links.pop("runbook_doctor.py").is_symlink()
    assert not links.pop("runbook_preflight.py").is_symlink()
    assert {str(path.readlink()) for path in links.values()} == ways


@pytest.mark.parametrize("flags", [(), ("--check", "--diff")])
def test_the_result_is_that_of_ansible_own_way(project, flags):
    toys = [{"act": act, "number": "7", "secret": CANARY} for act in ("ok", "fails")]
    forked = project.run_each(toys, *flags)
    assert CANARY not in project.output
    assert CANARY not in json.dumps(forked)
    usual = project.run_each(toys, *flags, forked=False)
    assert [forked[host][0].pop("is_fork") for host in "ab"] == [True, True]
    assert [usual[host][0].pop("is_fork") for host in "ab"] == [False, False]
    assert [forked[host][0]["host"] for host in "ab"] == ["a", "b"]
    assert forked == usual
    assert [each["warnings"] for each in forked["a"]] == [["careful"]] * 2


def test_nothing_of_one_call_is_left_for_the_next(project):
    said = project.run(task={"loop": [1, 2, 3]}, number="{{ item }}")
    assert [each["calls"] for each in said["a"]["results"]] == [1, 1, 1]


def test_wrong_options_are_refused_in_the_same_words(project):
    wrong: list[dict[str, Any]] = [{"number": "seven"}, {"numbre": 7}]
    forked, usual = project.run_each(wrong), project.run_each(wrong, forked=False)
    assert [each["failed"] for each in forked["a"]] == [True, True]
    assert [each["msg"] for each in forked["a"]] == [each["msg"] for each in usual["a"]]


def test_a_module_that_dies_fails_its_task_and_nothing_else(project):
    said = project.run_each([{"act": act} for act in ("killed", "silent", "raises")])
    for host in "ab":
        assert [(each["failed"], each["rc"]) for each in said[host]] == [(True, -9), (True, 3), (True, 1)]
    assert "an error that nobody caught" in said["a"][2]["module_stderr"]


def test_a_module_is_stopped_with_its_task(project):
    said = project.run(act="slow", task={"timeout": 2})
    assert said["a"]["failed"]
    pid = int((project.root / "pid").read_text())
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)


def test_workers_of_a_killed_run_end(project):
    """Their results are larger than a pipe, and nobody reads them any more."""
    project.starts_only = True
    project.run_each([{"act": "waits"}])
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "ANSIBLE_"))}
    run = subprocess.Popen(
        ["ansible-playbook", "-i", "hosts", "playbooks/toy.yml"], cwd=project.root, env=environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not all((project.root / f"pid{host}").exists() for host in "ab"):
        assert time.monotonic() < until
        time.sleep(0.05)
    started = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    (project.root / "pid-go").touch()
    _, left = psutil.wait_procs(started, timeout=60)
    for each in left:
        each.kill()
    assert left == []


def test_what_runs_in_the_background_is_left_to_ansible(project):
    assert project.run(task={"async": 20, "poll": 1})["a"]["is_fork"] is False
