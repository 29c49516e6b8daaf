"""What CI runs, and the execution environment, agree with what the project says of itself elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from ansible.module_utils.runbook.rules import requirements

from tools import matrix, postgres_servers

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ["3.11", "3.12", "3.13"]
GITHUB = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
GITLAB = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())


def _github(job):
    return GITHUB[job]["strategy"]["matrix"]


def _gitlab(job, key):
    found = [each[key] for each in GITLAB[job]["parallel"]["matrix"]]
    return [value for each in found for value in (each if isinstance(each, list) else [each])]


def test_both_run_the_same():
    oldest, newest = requirements.CORES
    cores = [f"2.{minor}" for minor in range(oldest[1], newest[1] + 1)]
    majors = [str(major) for major in (*postgres_servers.VERSIONS, matrix.NEWEST)]
    assert _github("everything")["python"] == PYTHONS
    assert _gitlab("everything", "PYTHON") == [f"python{each}" for each in PYTHONS]
    assert [each["core"] for each in _github("core")["include"]] == _gitlab("core", "CORE") == cores
    assert _github("postgres")["postgres"] == _gitlab("postgres", "MAJOR") == majors


def test_both_call_what_people_call():
    """The commands of CI are targets and programs of the project, in both the same."""
    of_github = [step["run"] for job in GITHUB.values() for step in job["steps"] if "run" in step]
    of_gitlab = [line for job in GITLAB.values() if isinstance(job, dict) for line in job.get("script", ())]

    def plain(line):
        line = re.sub(r"\$\{\{ matrix\.\w+ \}\}|\"?\$[A-Z]+\"?", "X", line)
        return line.replace('"', "").removesuffix(" PYTHON=python")

    ours = {plain(line) for line in of_github if not line.startswith("sudo")}
    assert ours == {plain(line) for line in of_gitlab}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in ours if line.startswith("make ")} <= targets


def test_actions_are_pinned_by_commit():
    used = [step["uses"] for job in GITHUB.values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", each) for each in used), used


# The execution environment --------------------------------------------------------------------------------------------

EE = yaml.safe_load((ROOT / "execution-environment.yml").read_text())


def test_the_execution_environment_has_what_is_locked():
    """The same packages at the same versions as on a bastion, but for those of the sandbox."""
    lock = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        found = re.match(r"([a-z0-9-]+)==(\S+)(?: ; (.+))?", line)
        # The image's Python is newer than 3.11.
        if found and "< '3.12'" not in (found[3] or ""):
            lock[found[1]] = found[2]
    needs = EE["dependencies"]
    pinned = [needs["ansible_core"]["package_pip"], *needs["python"]]
    pinned += re.findall(r"'(barman==\S+)'", str(EE["additional_build_steps"]["append_final"][0]))
    assert {name: lock[name] for name, _, _ in (each.partition("==") for each in pinned)} == dict(
        each.split("==") for each in pinned
    )
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[\[<>=]", each)[0] for each in said} <= {each.partition("==")[0] for each in pinned}


def test_the_execution_environment_can_be_built(tmp_path):
    """ansible-builder reads the file, and makes what a container engine builds."""
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-builder"), "create", "-v", "1", "-c", str(tmp_path),
            "-f", str(ROOT / "execution-environment.yml"),
            # Its name else depends on the container engine that is installed.
            "--output-filename", "Containerfile",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = (tmp_path / "Containerfile").read_text()
    assert "FROM" in made
    bindep = (tmp_path / "_build/bindep.txt").read_text()
    for platform in ("dpkg", "rpm"):
        assert re.search(rf"^postgresql\S* \[platform:{platform}\]$", bindep, re.MULTILINE), bindep
        assert re.search(rf"^git \[platform:{platform}\]$", bindep, re.MULTILINE), bindep
    assert "community.postgresql" in (tmp_path / "_build/requirements.yml").read_text()
