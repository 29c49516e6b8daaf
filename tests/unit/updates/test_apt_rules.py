"""What apt and needrestart print, and what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.updates import apt, server

NOW = datetime(2026, 6, 30, tzinfo=UTC)
PRINTED = """\
Inst base-files [12.4+deb12u10] (12.4+deb12u11 Debian:12.11/stable [amd64])
Inst linux-image-6.1.0-37-amd64 (6.1.140-1 Debian-Security:12/stable-security [amd64])
Inst libssl3:i386 [3.0.15-1] (3.0.16-1 Debian:12.11/stable, Debian-Security:12/stable-security [i386]) []
Inst openssl [3.0.2-0ubuntu1.18] (3.0.2-0ubuntu1.19 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64])
Inst libxml2 [2.9.13] (2.9.13+esm1 UbuntuESM:22.04/jammy-infra-security [amd64])
Remv oldlib [1.0]
Conf base-files (12.4+deb12u11 Debian:12.11/stable [amd64])
"""


def test_updates_are_security_updates_by_their_archive():
    found = apt.simulated(PRINTED)
    assert [each.package for each in found.security] == ["libssl3:i386", "libxml2", "openssl"]
    # What is new has no version of before, and no deadline.
    assert apt.Update("linux-image-6.1.0-37-amd64", "", "6.1.140-1", is_security=True) in found.updates
    assert (len(found.updates), found.removed) == (5, ("oldlib",))


@pytest.mark.parametrize(
    ("lines", "asked", "reboot", "unknown"),
    [
        (["VER: 3.6", "KSTA: 1"], False, "", ""),
        (["VER: 3.6", "KSTA: 1"], True, "a package asked for it", ""),
        (["VER: 3.6", "KSTA: 3", "KEXP: 6.1.0-37-amd64"], False, "a newer kernel, 6.1.0-37-amd64, is installed", ""),
        (["VER: 3.6", "KSTA: 2"], False, "a newer build of the kernel is installed", ""),
        (["VER: 3.6", "KSTA: 0"], False, "", "needrestart does not know the kernel that is installed"),
        ([], False, "", "needrestart printed no result"),
    ],
)
def test_a_restart_of_the_server_is_needed_not_needed_or_not_known(lines, asked, reboot, unknown):
    said = "\n".join(f"NEEDRESTART-{line}" for line in lines)
    found = apt.restarts(said, ["linux-image-6.1.0-37-amd64"], reboot_asked=asked)
    assert (found.reboot, found.unknown) == (reboot, unknown)


def test_where_no_kernel_is_installed_none_has_to_be_known():
    said = "NEEDRESTART-VER: 3.6\nNEEDRESTART-KSTA: 0"
    packages = ["linux-image-amd64", "linux-libc-dev"]
    assert apt.restarts(said, packages, reboot_asked=False).unknown == ""
    # What says nothing at all is another matter.
    assert apt.restarts("", [], reboot_asked=False).unknown == "needrestart printed no result"


@pytest.mark.parametrize(("days_ago", "state"), [(0, "open"), (6.9, "open"), (7, "overdue"), (None, "undated")])
def test_the_deadline_runs_from_the_first_run_that_saw_it(days_ago, state):
    listed = [apt.Waiting("update", "a=2", "a 1 to 2")]
    first = None if days_ago is None else {"update:a=2": (NOW - timedelta(days=days_ago)).isoformat()}
    checks, figures = apt.judge(listed, first, 7, NOW)
    assert [each["state"] for each in figures] == [state]
    assert [each.status for each in checks] == [{"open": "ok", "overdue": "breach", "undated": "unknown"}[state]]


def test_what_is_done_is_forgotten_and_what_is_new_begins_now():
    listed = [apt.Waiting("update", "a=2", ""), apt.Waiting("reboot", "server", "")]
    before = apt.pairs({"update:a=2": "2026-06-01T00:00:00+00:00", "update:b=2": "2026-06-01T00:00:00+00:00"})
    assert apt.seen(listed, before, NOW) == {
        "update:a=2": "2026-06-01T00:00:00+00:00",
        "reboot:server": "2026-06-30T00:00:00+00:00",
    }


def test_a_proof_counts_for_its_days_and_for_its_very_version():
    def proof(days_ago: float, version: str) -> dict[str, object]:
        return {"proven_at": (NOW - timedelta(days=days_ago)).isoformat(), "packages": apt.pairs({"libssl3": version})}

    update = apt.Update("libssl3:amd64", "1", "3")
    for documents, waits in (
        ([proof(7, "3")], False), ([proof(7.1, "3")], True), ([proof(1, "2")], True), ([proof(-1, "3")], True),
        ([{"proven_at": "soon"}], True), ([], True), ([proof(1, "2"), proof(2, "3")], False),
    ):  # fmt: skip
        assert bool(apt.unproven([update], apt.proven(documents, NOW, 7))) is waits


@pytest.mark.parametrize(
    ("machine", "name", "wanted_id", "said"),
    [
        ("ab", "web1", "", "it is empty, and web1 says ab"),
        ("ab", "web1", "cd", "this is another server"),
        ("ab", "web2", "AB", "the server calls itself web2"),
    ],
)
def test_another_server_is_refused(machine, name, wanted_id, said):
    with pytest.raises(RunbookError, match=said):
        server.check_identity(machine, name, wanted_id=wanted_id, wanted_name="web1", own_id="ef")


def test_a_bastion_that_answers_in_place_of_its_server_is_refused():
    with pytest.raises(RunbookError, match="is this bastion itself"):
        server.check_identity("ab", "web1", wanted_id="", wanted_name="web1", own_id="ab")


@pytest.mark.parametrize("named", ["", "production"])
def test_production_does_not_prove_itself(named):
    with pytest.raises(RunbookError, match=f"proof_environment: it is '{named}'.*_proof_environment: staging"):
        apt.check_proof_environment(named, "production", None)
    apt.check_proof_environment(named, "production", "CVE-2026-1 is exploited")
    apt.check_proof_environment(named, "staging", None)
    apt.check_proof_environment("staging", "production", None)
