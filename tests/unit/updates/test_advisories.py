"""Rules of advisories: deadlines at their limits, and what pnpm audit may print."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.updates import advisories, audit, packages, versions
from ansible.module_utils.runbook.rules.updates.packages import NPM, Package

NOW = datetime(2026, 6, 30, tzinfo=UTC)
LODASH = Package(NPM, "lodash", "4.17.20")
FOUND = {
    "advisories": {
        "1106913": {
            "id": 1106913, "module_name": "lodash", "severity": "high", "title": "Command Injection\nin lodash",
            "vulnerable_versions": "<4.17.21", "patched_versions": ">=4.17.21", "surprise": 1,
            "github_advisory_id": "GHSA-35jh-r3h4-6jhm", "cves": ["CVE-2021-23337"],
            "url": "https://github.com/advisories/GHSA-35jh-r3h4-6jhm",
            "findings": [{"version": "4.17.20", "paths": [".>lodash"]}, {"version": "3.0.0", "paths": ["a>lodash"]}],
        }
    },
    "metadata": {"vulnerabilities": {"high": 7}},
}  # fmt: skip


def advisory(severity: str = "high", days_ago: float | None = 1) -> advisories.Advisory:
    """One of lodash's."""
    published = None if days_ago is None else NOW - timedelta(days=days_ago)
    said = {"id": "GHSA-1111", "published": published and published.isoformat(),
            "database_specific": {"severity": severity}}  # fmt: skip
    found = advisories.of_osv(said, LODASH, "OSV")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("severity", "days_ago", "state"),
    [
        ("CRITICAL", 6.9, "open"), ("CRITICAL", 7, "overdue"), ("HIGH", 13.9, "open"), ("HIGH", 14, "overdue"),
        ("MODERATE", 89.9, "open"), ("MODERATE", 90, "overdue"), ("LOW", 179.9, "open"), ("LOW", 180, "overdue"),
        # Nobody has scored it, so it may be critical.
        ("", 6.9, "open"), ("", 7, "overdue"), ("HIGH", None, "undated"),
    ],
)  # fmt: skip
def test_deadlines_at_their_limits(severity, days_ago, state):
    (found,) = advisories.judge([advisory(severity, days_ago)], (), advisories.DEADLINE_DAYS, NOW)
    assert found.state == state


def test_a_waiver_counts_to_the_end_of_its_last_day():
    said = {"id": "GHSA-1111", "owner": "A", "reason": "b", "expires_on": date(2026, 6, 30)}
    given = advisories.waivers([said], NOW.date())
    late = advisory(days_ago=100)
    for now, state in ((NOW + timedelta(hours=23), "waived"), (NOW + timedelta(hours=24), "overdue")):
        assert advisories.judge([late], given, advisories.DEADLINE_DAYS, now)[0].state == state
    other = Package(NPM, "other", "1.0.0")
    assert not advisories.waivers([said | {"package": "lodash"}], NOW.date())[0].covers(replace(late, package=other))


def test_an_inventory_shortens_a_deadline_and_does_not_lengthen_it():
    assert advisories.deadlines({"high": 3})["high"] == 3
    for wrong in ({"high": 15}, {"high": 0}, {"high": True}, {"severe": 1}):
        with pytest.raises(RunbookError, match="deadline_days"):
            advisories.deadlines(wrong)


def test_a_package_that_was_made_to_do_harm_is_critical():
    found = advisories.of_osv({"id": "MAL-2025-1", "published": "2026-06-29T00:00:00Z"}, LODASH, "OSV")
    assert found is not None
    assert found.severity == "critical"


def test_what_to_update_covers_every_fix_of_a_version():
    found = [replace(advisory(), id=f"GHSA-{fix}", fixed=fix) for fix in ("4.17.21", "4.17.23", "")]
    judged = advisories.judge(found, (), advisories.DEADLINE_DAYS, NOW)
    (wanted,) = advisories.wanted(judged, frozenset())
    assert (wanted["to"], wanted["advisories"]) == ("4.17.23", ["GHSA-4.17.21", "GHSA-4.17.23"])


@pytest.mark.parametrize("code", [0, 1])
def test_pnpm_audit_with_findings_is_read_whatever_its_exit_code(code):
    found = audit.parse(json.dumps(FOUND), code)
    assert [(each.id, each.package.version, each.fixed, each.severity) for each in found] == [
        ("GHSA-35jh-r3h4-6jhm", "3.0.0", "4.17.21", "high"),
        ("GHSA-35jh-r3h4-6jhm", "4.17.20", "4.17.21", "high"),
    ]
    assert found[0].summary == "Command Injection in lodash"


def test_pnpm_audit_and_osv_name_one_vulnerability():
    osv = advisories.of_osv(
        {"id": "GHSA-35jh-r3h4-6jhm", "published": "2026-06-01T00:00:00Z", "aliases": ["CVE-2021-23337"]}, LODASH, "OSV"
    )
    assert osv is not None
    old, ours = advisories.together([*audit.parse(json.dumps(FOUND), 1), osv])
    assert (old.package.version, old.sources, old.published) == ("3.0.0", ("pnpm audit",), None)
    assert (ours.sources, ours.severity, ours.published) == (("OSV", "pnpm audit"), "high", osv.published)


@pytest.mark.parametrize(
    ("stdout", "code"),
    [
        ("", 1), ("", 0), ("{", 1), ("[]", 0), ("ERR_PNPM_AUDIT_NO_LOCKFILE  No pnpm-lock.yaml found", 1),
        ('{"error": {"code": "ERR_PNPM_AUDIT_BAD_RESPONSE", "message": "responded with 410: Gone"}}', 1),
        ('{"error": {"code": "E410"}, "advisories": {}}', 0), ('{"advisories": {}}', 2), ('{"advisories": []}', 0),
        ('{"advisories": {"1": {"module_name": "lodash", "findings": []}}}', 1), ('{"advisories": {"1": {}}}', 1),
        ('{"metadata": {"vulnerabilities": {"high": 0}}}', 0),
    ],
)  # fmt: skip
def test_pnpm_audit_without_a_result_is_unknown_and_never_clean(stdout, code):
    with pytest.raises(RunbookError, match="no result") as raised:
        audit.parse(stdout, code)
    assert raised.value.status == "unknown"


def test_pnpm_audit_that_found_nothing_is_clean_only_where_it_says_so():
    assert audit.parse('{"advisories": {}, "metadata": {"vulnerabilities": {"high": 7}}}', 0) == []


def test_both_documents_of_a_lock_file_and_older_keys_are_read():
    lock = packages.of_pnpm_lock(
        [
            {"lockfileVersion": "9.0", "packages": {"pnpm@11.2.0": {}}},
            {"lockfileVersion": "9.0", "importers": {".": {"devDependencies": {"a": {}}}},
             "packages": {"/a@1.0.0(b@2.0.0)": {}, "@x/y@1.0.0-rc.1": {}, "local@file:../local": {}}},
        ],
        "pnpm-lock.yaml",
    )  # fmt: skip
    assert [str(each) for each in lock.packages] == ["@x/y 1.0.0-rc.1", "a 1.0.0", "pnpm 11.2.0"]
    assert (lock.unpinned, sorted(lock.direct)) == (("local@file:../local",), ["a"])


def test_a_requirement_from_an_address_is_not_pinned():
    lock = packages.of_requirements("a[b] == 1.0 # via c\nd @ https://example.com/d.whl\n--index-url x\n\n# e==1\n")
    assert ([str(each) for each in lock.packages], lock.unpinned) == (["a 1.0"], ("d @ https://example.com/d.whl",))


def test_versions_are_in_the_order_of_semver_and_of_pep_440():
    ordered = ["1.0.0.dev1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0",
               "1.0.post1", "1.0.1", "1.2", "1.10", "2", "1!0.1"]  # fmt: skip
    assert sorted(sorted(ordered), key=lambda each: versions.key(each) or (0, (), ())) == ordered
    steps = [versions.step(*each) for each in (("0.0.3", "0.0.4"), ("0.1.2", "0.1.3"), ("1.0", "1.0"), ("1!1", "2!1"))]
    assert steps == ["major", "patch", "patch", "major"]
