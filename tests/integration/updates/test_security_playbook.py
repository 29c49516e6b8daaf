"""updates.yml --tags security: the application and this project in one run, and what alerts look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conftest import ROOT
from fakes.osv import FakeOsv
from git_remotes import Remote

from playbooks import Project

LOCK = """\
lockfileVersion: '9.0'
importers:
  .:
    dependencies:
      lodash: {specifier: ^4.17.0, version: 4.17.20}
packages:
  lodash@4.17.20: {resolution: {integrity: sha512-aaaa}}
  minimist@1.2.5: {resolution: {integrity: sha512-bbbb}}
"""


def test_the_application_and_this_project_are_looked_at_and_none_hides_the_other(tmp_path):
    pnpm = tmp_path / "pnpm"
    pnpm.write_text('#!/bin/sh\ncase "$1" in --version) echo 11.2.0;; *) echo \'{"advisories": {}}\';; esac\n')
    pnpm.chmod(0o755)
    remote = Remote.new(tmp_path / "git", {"pnpm-lock.yaml": LOCK, "package.json": "{}"})
    now = datetime.now(UTC)
    jinja = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("jinja2=="))
    with FakeOsv() as osv:
        for name, package, version, days, severity in (
            ("GHSA-aaaa-0001", "lodash", "4.17.20", 20, "HIGH"),
            ("GHSA-aaaa-0002", "lodash", "4.17.20", 3, "MODERATE"),
            ("GHSA-bbbb-0001", "minimist", "1.2.5", 30, "CRITICAL"),
        ):
            osv.advisory(name, package, version, published=f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}",
                         severity=severity, fixed="4.17.21" if package == "lodash" else "1.2.6")  # fmt: skip
        yesterday = f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
        own_version = jinja.split()[0].partition("==")[2]
        osv.advisory("GHSA-cccc-0001", "jinja2", own_version, ecosystem="PyPI", published=yesterday, fixed="99.0")
        project = Project.for_application(
            tmp_path,
            app_repository=str(remote.path),
            app_repository_root=remote.root,
            app_branch="main",
            security_updates_osv_url=osv.url,
            security_updates_pnpm=str(pnpm),
            security_updates_waivers=[
                {"id": "GHSA-bbbb-0001", "owner": "A. Meyer", "reason": "only in tests", "expires_on": str(now.date())}
            ],
        )
        run = project.run("updates.yml", "--tags", "security")
        untagged = project.run("updates.yml")
        mistyped = project.run("updates.yml", "--tags", "securty")
    web, own = run.results["security_advisories_info"]
    assert (web["project"], web["overdue"], web["open"], web["waived"]) == ("app", 1, 1, 1), run.output
    assert (own["project"], own["open"]) == ("runbook", 1)
    assert run.code == 2
    assert "lodash 4.17.20: GHSA-aaaa-0001 (breach): High: Something about lodash; overdue since" in run.output
    assert run.record is not None
    metrics = (run.record / "metrics.prom").read_text()
    waiting = [line for line in metrics.splitlines() if line.startswith("runbook_advisories_waiting{")]
    assert {line.partition('project="')[2] for line in waiting} == {'app"} 2.0', 'runbook"} 1.0'}, waiting
    report = (run.record / "report.md").read_text()
    assert "What to update" in report
    assert "| lodash | 4.17.20 | 4.17.21 | patch |" in report
    assert "updates.yml does several things; say which" in untagged.output
    assert mistyped.code != 0, mistyped.output
    assert "securty names no step of updates.yml; the tags that exist are" in " ".join(mistyped.output.split())
