"""security_advisories_info: lock files as they are, OSV over HTTP, and what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.sandbox.npm_registry import PNPM, fetched
from ansible.module_utils.runbook.errors import RunbookError
from conftest import ROOT, Outcome, run_module
from fakes.http import Fault
from fakes.npm_audit import FakeNpmAudit
from fakes.osv import FakeOsv
from git_remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = """\
lockfileVersion: '9.0'
settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false
importers:
  .:
    dependencies:
      lodash:
        specifier: ^4.17.0
        version: 4.17.20
packages:
  lodash@4.17.20:
    resolution: {integrity: sha512-aaaa}
  '@scope/deep@1.0.0':
    resolution: {integrity: sha512-bbbb}
snapshots:
  lodash@4.17.20: {}
"""
TODAY = datetime.now(UTC)
WAIVER = {
    "id": "CVE-2025-9", "package": "lodash", "owner": "A. Meyer", "reason": "never called", "expires_on": "2026-01-01",
}  # fmt: skip


def ago(days: float) -> str:
    """A moment as OSV writes it."""
    return f"{TODAY - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def pnpm(folder: Path, said: str = '{"advisories": {}}', code: int = 0, version: str = "11.2.0") -> str:
    """A pnpm that audits as it is told; what its own output may be is in tests/unit/updates/test_advisories.py."""
    path = folder / "pnpm"
    path.write_text(
        f"""#!/bin/sh\ncase "$1" in --version) echo {version};; *) cat <<'X'\n{said}\nX\nexit {code};; esac\n"""
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def osv() -> Iterator[FakeOsv]:
    """An OSV that knows nothing yet."""
    with FakeOsv() as fake:
        yield fake


def look(osv: FakeOsv, folder: Path, *, files: tuple[str, ...] = ("pnpm-lock.yaml",), **options: Any) -> Outcome:
    """Look at a project that has the lock file above."""
    (folder / "pnpm-lock.yaml").write_text(LOCK)
    (folder / "requirements.txt").write_text(
        "# locked\nJinja2==3.1.2 ; python_version < '4' \\\n    --hash=sha256:ab\n"
    )
    options = {"pnpm": options.get("pnpm") or pnpm(folder)} | options
    given = {"name": "web", "directory": str(folder), "files": list(files), "osv_url": osv.url} | options
    return run_module("security_advisories_info", given)


def test_an_advisory_in_time_is_told_with_its_deadline_and_what_to_update(osv, tmp_path):
    for number in range(3):
        osv.advisory(f"GHSA-aaaa-000{number}", "lodash", "4.17.20", published=ago(1), fixed=f"4.17.2{number + 1}")
    osv.advisory("GHSA-deep-0001", "@scope/deep", "1.0.0", published=ago(2), severity="LOW", fixed="2.0.0")
    osv.advisory("GHSA-gone-0001", "lodash", "4.17.20", withdrawn=ago(1))
    result = look(osv, tmp_path).result
    assert (result["status"], result["packages"], result["open"], result["overdue"]) == ("ok", 2, 4, 0), result["msg"]
    assert [
        (each["package"], each["from"], each["to"], each["step"], each["is_direct"]) for each in result["wanted"]
    ] == [
        ("lodash", "4.17.20", "4.17.23", "patch", True),
        ("@scope/deep", "1.0.0", "2.0.0", "major", False),
    ]
    assert result["next_due_at"][:10] == f"{TODAY + timedelta(days=13):%Y-%m-%d}"


def test_one_vulnerability_with_two_names_is_one_and_overdue_by_its_worst(osv, tmp_path):
    osv.advisory("PYSEC-2024-1", "jinja2", "3.1.2", ecosystem="PyPI", published=ago(8), severity=None,
                 aliases=("CVE-2024-1",))  # fmt: skip
    osv.advisory("GHSA-jinj-0001", "jinja2", "3.1.2", ecosystem="PyPI", published=ago(5), severity="CRITICAL",
                 fixed="3.1.3", aliases=("CVE-2024-1",))  # fmt: skip
    looked = look(osv, tmp_path, files=("requirements.txt", "pnpm-lock.yaml"))
    assert (looked.failed, looked.result["status"], looked.result["overdue"]) == (True, "breach", 1)
    (found,) = looked.result["advisories"]
    assert (found["id"], found["aliases"], found["severity"], found["state"], found["fixed"]) == (
        "GHSA-jinj-0001", ["CVE-2024-1", "PYSEC-2024-1"], "critical", "overdue", "3.1.3",
    )  # fmt: skip
    assert (
        "jinja2 3.1.2: GHSA-jinj-0001 (breach): Critical: Something about jinja2; overdue since"
        in (looked.result["msg"])
    )


def test_waivers_put_off_until_they_expire_and_must_be_for_something(osv, tmp_path):
    osv.advisory("GHSA-aaaa-0001", "lodash", "4.17.20", published=ago(400), aliases=("CVE-2025-9",))
    # It may be past midnight by the time it is looked at.
    day = datetime.now(UTC).date() + timedelta(days=1)
    waived = look(osv, tmp_path, waivers=[WAIVER | {"expires_on": str(day)}]).result
    assert (waived["status"], waived["waived"], waived["wanted"]) == ("ok", 1, []), waived["msg"]
    expired = look(osv, tmp_path, waivers=[WAIVER | {"expires_on": str(day - timedelta(days=2))}]).result
    assert expired["status"] == "breach"
    assert "A. Meyer fixes CVE-2025-9, or decides again" in expired["msg"]
    other = WAIVER | {"id": "CVE-2020-1", "expires_on": str(day)}
    useless = look(osv, tmp_path, waivers=[WAIVER | {"expires_on": str(day)}, other]).result
    assert "CVE-2020-1: waiver (breach): It is for CVE-2020-1 in lodash, which affects nothing here" in useless["msg"]


def test_the_npm_registry_is_asked_too_and_one_source_of_two_is_not_clean(osv, tmp_path):
    found = {
        "module_name": "lodash", "severity": "critical", "title": "Injection", "patched_versions": ">=4.17.21",
        "github_advisory_id": "GHSA-aaaa-0001", "findings": [{"version": "4.17.20", "paths": []}],
    }  # fmt: skip
    told = pnpm(tmp_path, json.dumps({"advisories": {"1": found}}), 1)
    osv.advisory("GHSA-aaaa-0001", "lodash", "4.17.20", published=ago(1), severity="LOW")
    result = look(osv, tmp_path, pnpm=told).result
    (known,) = result["advisories"]
    assert (known["severity"], known["sources"], known["fixed"]) == ("critical", ["OSV", "pnpm audit"], "4.17.21")
    assert result["status"] == "ok", result["msg"]
    gone = pnpm(tmp_path, '{"error": {"code": "ERR_PNPM_AUDIT_BAD_RESPONSE", "message": "410: Gone"}}', 1)
    result = look(osv, tmp_path, pnpm=gone).result
    # What the other one knows is told all the same.
    assert (result["status"], result["open"]) == ("unknown", 1)
    assert "410: Gone" in result["msg"]
    old = look(osv, tmp_path, pnpm=pnpm(tmp_path, version="10.9.0")).result
    assert (old["status"], "install pnpm 11 or newer" in old["msg"]) == ("unknown", True)


def test_the_real_pnpm_is_understood_and_osv_says_since_when_it_is_known(osv, tmp_path):
    try:
        real = fetched(ROOT / ".cache" / "npm", *PNPM)
    except RunbookError as error:
        pytest.skip(error.message)
    # OSV does not know that it affects this version.
    osv.advisory("GHSA-35jh-r3h4-6jhm", "lodash", published=ago(1), severity="HIGH", fixed="4.17.21")
    (tmp_path / "package.json").write_text('{"name": "web", "dependencies": {"lodash": "^4.17.0"}}')
    with FakeNpmAudit() as npm:
        npm.advisory("GHSA-35jh-r3h4-6jhm", "lodash", "<4.17.21")
        (tmp_path / ".npmrc").write_text(f"registry={npm.url}/\n")
        result = look(osv, tmp_path, pnpm=str(real)).result
        (known,) = result["advisories"]
        assert (known["state"], known["fixed"], known["sources"]) == ("open", "4.17.21", ["OSV", "pnpm audit"])
        assert result["status"] == "ok", result["msg"]
        npm.faults.append(Fault("advisories/bulk", "status", 410, body={"error": "Gone"}, times=9))
        result = look(osv, tmp_path, pnpm=str(real)).result
    assert (result["status"], "pnpm audit: no result" in result["msg"]) == ("unknown", True), result["msg"]


def test_a_repository_is_looked_at_as_it_is_on_its_branch(osv, tmp_path):
    osv.advisory("GHSA-aaaa-0001", "lodash", "4.17.20", published=ago(20))
    remote = Remote.new(tmp_path / "git", {"pnpm-lock.yaml": LOCK, "package.json": "{}"})
    (tmp_path / "bin").mkdir()
    looked = run_module(
        "security_advisories_info",
        remote.options() | {"name": "web", "branch": "main", "files": ["pnpm-lock.yaml"], "osv_url": osv.url,
                            "pnpm": pnpm(tmp_path / "bin")},
    )  # fmt: skip
    assert (looked.result["commit"], looked.result["overdue"]) == (remote.head("main"), 1), looked.result["msg"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("querybatch", "status", 410, body={"message": "Gone"}), "410: Gone"),
        (Fault("querybatch", "status", 200, body=b"{"), "no JSON"),
        (Fault("querybatch", "status", 200, body={"results": []}), "0 answers to 2 questions"),
    ],
)  # fmt: skip
def test_a_source_that_gives_no_answer_is_unknown_and_never_clean(osv, tmp_path, fault, said):
    osv.faults.append(fault)
    looked = look(osv, tmp_path, timeout_s=1)
    assert (looked.failed, looked.result["status"]) == (True, "unknown")
    assert said in looked.result["msg"]


def test_what_affects_us_is_told_though_nobody_says_what_it_is(osv, tmp_path):
    osv.advisory("GHSA-aaaa-0001", "lodash", "4.17.20")
    osv.faults.append(Fault("GET /v1/vulns", "status", 404, body={"message": "Bug not found."}))
    result = look(osv, tmp_path, waivers=[]).result
    assert (result["status"], [each["state"] for each in result["advisories"]]) == ("unknown", ["undated"])
    assert "no source says since when it is known" in result["msg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"files": ["gone.txt"]}, "files: "),
        ({"files": ["../secret"]}, "leads out of"),
        ({"files": []}, "files: it is empty"),
        ({"directory": None}, "directory, repository: give one of them"),
        ({"deadline_days": {"critical": 8}}, "critical: 8 is out of bounds; give a number of days from 1 to 7"),
        ({"waivers": [{"id": "lodash", "owner": "a", "reason": "b", "expires_on": "2026-01-01"}]}, "no name of an adv"),
        (
            {"waivers": [{"id": "CVE-2025-9", "owner": "", "reason": "b", "expires_on": "2026-01-01"}]},
            "owner: it is em",
        ),
        (
            {"waivers": [{"id": "CVE-2025-9", "owner": "a", "reason": "b", "expires_on": "2099-01-01"}]},
            "180 days ahead",
        ),
        ({"waivers": [{"id": "CVE-2025-9", "owner": "a", "reason": "b", "expires_on": "soon"}]}, "'soon' is no day"),
    ],
)
def test_bad_input_is_named_before_anybody_is_asked(osv, tmp_path, options, said):
    refused = look(osv, tmp_path, **options)
    assert refused.failed
    assert said in refused.result["msg"]
    assert osv.requests == []


def test_a_lock_file_with_conflicts_and_an_old_one_are_named(osv, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pnpm-lock.yaml").write_text(f"<<<<<<< HEAD\n{LOCK}=======\n{LOCK}>>>>>>> other\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "pnpm-lock.yaml").write_text("lockfileVersion: 5.4\n")
    assert "solve what a merge left in it" in look(osv, tmp_path, files=("a/pnpm-lock.yaml",)).result["msg"]
    old = look(osv, tmp_path, files=("b/pnpm-lock.yaml",)).result
    assert (old["status"], "lockfileVersion '5.4'" in old["msg"]) == ("unknown", True)
    (tmp_path / "loose.txt").write_text("boto3>=1\n-r more.txt\n")
    loose = look(osv, tmp_path, files=("loose.txt",)).result
    assert (loose["status"], "2 entries without a version to look up: boto3>=1, -r more.txt" in loose["msg"]) == (
        "unknown", True,
    )  # fmt: skip
