"""What apt, dpkg and needrestart say of a server, and what follows: security updates that wait, and since when.

apt gives no severity and no day. So the clock of an update runs from the first run that saw it, which the state store
remembers, and the deadline is one for all: UK Cyber Essentials wants updates within 14 days, and windows are weekly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Days within which a security update must be installed, and be in effect; at most.
DEADLINE_DAYS, MOST_DAYS = 7, 14

#: ``Inst libssl3 [3.0.11-1] (3.0.15-1 Debian:12.9/stable, Debian-Security:12/stable-security [amd64]) [other:amd64 ]``
_INST = re.compile(
    r"Inst (?P<package>\S+)(?: \[(?P<old>[^\]]+)\])? \((?P<new>\S+) (?P<origins>.*?)\s*\[(?P<arch>[^\]]+)\]\)"
)
_REMV = re.compile(r"Remv (\S+)")
#: Debian's label, or a suite as Debian and Ubuntu call it; Ubuntu Pro's too.
_SECURITY = re.compile(r"^Debian-Security:|[/:][a-z0-9.-]*-security$", re.IGNORECASE)
#: The same in the Release file of an archive, for grep -E.
SECURITY_ARCHIVE = "^(Label: Debian-Security|Suite: .*-security)$"
#: What needrestart's status of the kernel means: https://github.com/liske/needrestart/blob/master/README.batch.md
_KERNEL = {"1": "", "2": "a newer build of the kernel", "3": "a newer kernel"}
#: A kernel of Debian or Ubuntu itself, and not the package that depends on the newest.
_IMAGE = re.compile(r"linux-image-(?:unsigned-)?\d")
_CONFFILE = re.compile(r"^Configuration file '([^']+)'.*\n(?: ==>.*\n)*? ==> Keeping old", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Update:
    """A package that would be installed."""

    package: str
    #: Empty where it is new here.
    old: str
    new: str
    is_security: bool = False

    @property
    def wanted(self) -> str:
        """As apt-get takes it, so that no newer one comes instead."""
        return f"{self.package}={self.new}"

    @property
    def named(self) -> str:
        """For people and records, in which ``passwd=1:4.13`` would be blotted out."""
        return f"{self.package} {self.new}"


@dataclass(frozen=True)
class Simulated:
    """What apt-get would do."""

    updates: tuple[Update, ...]
    removed: tuple[str, ...]

    @property
    def security(self) -> tuple[Update, ...]:
        """Updates of installed packages that come from a security archive."""
        return tuple(each for each in self.updates if each.is_security and each.old)


@dataclass(frozen=True)
class Restarts:
    """What still runs the code of before an update."""

    #: systemd's names.
    services: tuple[str, ...]
    #: Why the server has to be started again; empty where it has not.
    reboot: str
    #: Why that is not known; empty where it is.
    unknown: str = ""


@dataclass(frozen=True)
class Waiting:
    """Something that has to be done on a server."""

    #: ``update``, ``restart`` or ``reboot``.
    kind: str
    name: str
    msg: str

    @property
    def key(self) -> str:
        """By which the state store remembers when it was first seen."""
        return f"{self.kind}:{self.name}"


def simulated(stdout: str) -> Simulated:
    """What ``apt-get -s`` printed.

    >>> simulated("Inst a [1] (2 Debian:12/stable, Debian-Security:12/stable-security [all])").security
    (Update(package='a', old='1', new='2', is_security=True),)
    """
    updates, removed = [], []
    for line in stdout.splitlines():
        found = _INST.match(line)
        if found:
            origins = [each.strip() for each in found["origins"].split(",")]
            is_security = any(_SECURITY.search(each) for each in origins)
            updates.append(Update(found["package"], found["old"] or "", found["new"], is_security))
        gone = _REMV.match(line)
        if gone:
            removed.append(gone[1])
    return Simulated(tuple(sorted(updates)), tuple(sorted(removed)))


def restarts(stdout: str, packages: Iterable[str], *, reboot_asked: bool) -> Restarts:
    """What ``needrestart -b`` printed.

    :param packages: names of those that are installed; where none is a kernel, as in a container or where the host
        gives a virtual machine its kernel, no update changes the one that runs
    :param reboot_asked: a package left ``/run/reboot-required``
    """
    said: dict[str, list[str]] = {}
    for line in stdout.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.startswith("NEEDRESTART-"):
            said.setdefault(key.removeprefix("NEEDRESTART-"), []).append(value.strip())
    services = tuple(sorted(set(said.get("SVC", []))))
    status = said.get("KSTA", [""])[0]
    kernel = _KERNEL.get(status)
    if "VER" not in said:
        return Restarts(services, "a package asked for it" if reboot_asked else "", "needrestart printed no result")
    if kernel:
        expected = said.get("KEXP", [""])[0]
        return Restarts(services, f"{kernel}{f', {expected},' if expected else ''} is installed")
    if reboot_asked:
        return Restarts(services, "a package asked for it")
    is_known = kernel == "" or not any(_IMAGE.match(name) for name in packages)
    return Restarts(services, "", "" if is_known else "needrestart does not know the kernel that is installed")


def judge_server(half_installed: str, found: Restarts, hostname: str) -> list[Check]:
    """Whether packages can be installed, and it can be known what runs the code of before; what is ok is not told.

    :param half_installed: what ``dpkg --audit`` says
    """
    checks = []
    if half_installed:
        said = f"{half_installed} Run dpkg --configure -a, then apt-get -f install."
        checks.append(Check.breach("dpkg", said, hostname))
    if found.unknown:
        said = f"{found.unknown}; see needrestart -v there, or install it: what has to be restarted is not known."
        checks.append(Check.unknown("needrestart", said, hostname))
    return checks


def kept_files(log: str) -> tuple[str, ...]:
    """Configuration files that somebody had changed, and of which a package brings a newer one: they stayed."""
    return tuple(sorted(set(_CONFFILE.findall(log))))


def waiting(
    every: Simulated, now_possible: Simulated, on_hold: Sequence[str], found: Restarts
) -> list[Waiting]:  # fmt: skip
    """All that has to be done.

    :param every: what would be done if nothing were held back
    :param now_possible: what can be done without removing a package
    :param on_hold: packages that a person holds back
    """
    possible = {each.package for each in now_possible.updates}
    listed = []
    for each in every.security:
        why = ""
        if each.package in on_hold:
            why = "; it is on hold: apt-mark unhold"
        elif each.package not in possible:
            why = "; it would remove a package: install it by hand"
        listed.append(Waiting("update", each.named, f"{each.package} {each.old} to {each.new}{why}"))
    listed += [
        Waiting("restart", name, f"{name} runs code of before an update: systemctl restart {name}")
        for name in found.services
    ]
    if found.reboot:
        listed.append(Waiting("reboot", "server", f"the server has to be started again: {found.reboot}"))
    return listed


def seen(listed: Iterable[Waiting], before: object, now: datetime) -> dict[str, str]:
    """When each was first seen; what is done is forgotten.

    :param before: the same of the run before, as :func:`pairs`
    """
    known = unpaired(before)
    return {each.key: known.get(each.key) or now.isoformat() for each in listed}


def pairs(found: Mapping[str, str]) -> list[list[str]]:
    """As the state store keeps it: a package called passwd may be no name of a field there."""
    return [[name, value] for name, value in sorted(found.items())]


def unpaired(said: object) -> dict[str, str]:
    """What :func:`pairs` made; of anything else nothing.

    >>> unpaired(pairs({"passwd": "1:4.13"})), unpaired(None)
    ({'passwd': '1:4.13'}, {})
    """
    found = said if isinstance(said, list) else []
    return {str(each[0]): str(each[1]) for each in found if isinstance(each, list) and len(each) == 2}


def judge(
    listed: Sequence[Waiting], first_seen: Mapping[str, str] | None, days: int, now: datetime
) -> tuple[list[Check], list[dict[str, Any]]]:
    """A check for each thing that waits, and its figures.

    :param first_seen: None where no state store remembers
    """
    checks, figures = [], []
    for each in listed:
        since = _moment((first_seen or {}).get(each.key))
        due = since + timedelta(days=days) if since else None
        state = "undated" if due is None else "overdue" if now >= due else "open"
        status = {"undated": Status.UNKNOWN, "overdue": Status.BREACH}.get(state, Status.OK)
        when = {
            "undated": "since when is not known: name a state store",
            "overdue": f"overdue since {due:%Y-%m-%d}" if due else "",
            "open": f"due on {due:%Y-%m-%d}" if due else "",
        }[state]
        checks.append(Check(each.kind, status, f"{each.msg}; {when}.", each.name))
        figures.append(
            {
                "kind": each.kind, "name": each.name, "state": state, "msg": each.msg,
                "first_seen_at": since.isoformat() if since else None, "due_at": due.isoformat() if due else None,
            }
        )  # fmt: skip
    return checks, figures


# --- proof on staging -------------------------------------------------------------------------------------------------


def proven(documents: Iterable[Mapping[str, Any]], now: datetime, days: int) -> dict[str, set[str]]:
    """Versions of each package with which a server of staging worked within so many days."""
    found: dict[str, set[str]] = {}
    for body in documents:
        at = _moment(body.get("proven_at"))
        if at is None or not timedelta(0) <= now - at <= timedelta(days=days):
            continue
        for package, version in unpaired(body.get("packages")).items():
            found.setdefault(package, set()).add(version)
    return found


def check_runs(hostname: str, found: Restarts) -> None:
    """What is installed is what runs: with a kernel that waits for a restart nothing is known of the new one.

    :raises RunbookError: it does not, or nobody knows (``unknown``)
    """
    if found.reboot:
        raise RunbookError(
            f"{hostname}: no proof is written, because the server has to be started again ({found.reboot}): "
            "what runs is not what is installed. Restart it, see that the application works, and run the same command "
            "again.",
            code="not_restarted",
        )
    if found.unknown:
        raise RunbookError(
            f"{hostname}: no proof is written, because whether it runs what is installed is unknown: {found.unknown}. "
            "See needrestart -v there, or install it.",
            code="not_restarted",
            status=Status.UNKNOWN,
        )


def unproven(updates: Iterable[Update], known: Mapping[str, set[str]]) -> list[Update]:
    """Those whose new version no server of staging worked with.

    >>> unproven([Update("a:amd64", "1", "2"), Update("b", "1", "2")], {"a": {"2"}, "b": {"1"}})
    [Update(package='b', old='1', new='2', is_security=False)]
    """
    return [each for each in updates if each.new not in known.get(each.package.partition(":")[0], set())]


def check_proof_environment(named: str, own: str, reason: str | None) -> None:
    """On production only that is installed with which another environment's servers worked.

    :param named: the environment whose servers prove it; empty for none
    :param own: that of the server
    :param reason: why what is not proven is installed, from the command line of the run
    :raises RunbookError: nothing would have to be proven, and nobody says why
    """
    if own != "production" or named not in ("", own) or reason:
        return
    raise RunbookError(
        f"proof_environment: it is {named!r}, so nothing would have to be proven before production; set "
        "server_updates_proof_environment: staging, or say for this run why not, with "
        """-e '{"server_updates_unproven_reason": "<reason>"}'."""
    )


def unproven_sentence(left: Sequence[Update], environment: str, days: int) -> str:
    """Why updates wait."""
    return (
        f"{count(len(left), 'update')} that no server of {environment} worked with in the last {count(days, 'day')}: "
        f"{some(each.named for each in left)}; run updates.yml --tags servers on {environment} first."
    )


# --- what became of it ------------------------------------------------------------------------------------------------


def left(planned: Iterable[Update], installed: Mapping[str, str]) -> list[Update]:
    """Of what was to be installed, what is not."""
    return [each for each in planned if installed.get(each.package.partition(":")[0]) != each.new]


def figures(updates: Iterable[Update]) -> list[dict[str, Any]]:
    """Updates as a result has them."""
    return [
        {"package": each.package, "from": each.old, "to": each.new, "is_security": each.is_security} for each in updates
    ]


def _moment(said: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
