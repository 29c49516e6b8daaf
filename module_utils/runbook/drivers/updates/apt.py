"""apt, dpkg and needrestart of a server, by plain commands through ``drivers/remote.py``.

A look leaves the server as it is: lists of packages are fetched into a folder of their own, which is gone afterwards.
The same lists are then installed from, so that nothing newer comes than was planned.
"""

from __future__ import annotations

import shlex
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers import remote
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.updates.apt import SECURITY_ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.rules.updates.apt import Update

#: Seconds for what only reads, and for fetching the lists.
_READ_S, _FETCH_S = 60, 300
#: Seconds that apt waits for another one, such as unattended-upgrades.
_LOCK_S = 120
#: Between two looks at a running upgrade.
_LOOK_S = 2.0
#: Nobody answers questions, and services are restarted when all is there.
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "APT_LISTCHANGES_FRONTEND": "none"}
_OPTIONS = (
    "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
    "-o", f"DPkg::Lock::Timeout={_LOCK_S}", "-o", "Dpkg::Use-Pty=0",
)  # fmt: skip
#: What the server says of itself, in one go: a machine without a line says so by its absence.
_IDENTITY = 'cat /etc/machine-id 2>/dev/null; echo; uname -n; . /etc/os-release 2>/dev/null; echo "$PRETTY_NAME"'


def identity() -> tuple[str, str, str]:
    """The machine's id, its name, and its operating system; empty where it does not say.

    :raises UnreachableError: no answer
    :raises RunbookError: nothing is run there, as where sudo asks for a password
    """
    said = remote.shell(_IDENTITY, timeout_s=_READ_S)
    if not said.stdout.strip():
        raise RunbookError(
            f"No command is run on the server: {said.why}. Let its user do that without a password: NOPASSWD in "
            "sudoers, or set ansible_become_password."
        )
    lines = [line.strip() for line in said.stdout.splitlines()]
    return (lines[0] if lines else "", lines[-2] if len(lines) > 2 else "", lines[-1] if len(lines) > 2 else "")


def is_root() -> bool:
    """Whether commands are done as root there.

    :raises UnreachableError: no answer
    """
    return remote.shell('test "$(id -u)" = 0', timeout_s=_READ_S).code == 0


def own_machine_id() -> str:
    """That of this machine; empty where it has none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


class Apt:
    """With its lists as they are now; made by :func:`refreshed`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lists = ("-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache")

    def fetch(self) -> None:
        """Fetch the lists, all of them.

        :raises UnreachableError: an archive gave no answer, or its signature is not good
        """
        # Without this a list that could not be fetched is a warning, and the exit code 0.
        said = self._get("update", "-o", "APT::Update::Error-Mode=any", timeout_s=_FETCH_S)
        if said.code:
            raise UnreachableError(f"apt-get update failed, so nobody knows what is to be installed: {said.why}.")

    def has_security(self) -> bool:
        """Whether an archive of security updates is among the lists: without one no update is ever one.

        :raises UnreachableError: no answer
        """
        wanted = f"grep -qsE '{SECURITY_ARCHIVE}' {self._folder}/lists/*Release"
        return remote.shell(wanted, timeout_s=_READ_S).code == 0

    def simulate(self, *words: str) -> str:
        """What apt-get would do.

        :raises RunbookError: it would do nothing of it
        """
        said = self._get("-s", *words, timeout_s=_READ_S)
        if said.code:
            raise RunbookError(f"apt-get {' '.join(words[:2])} is not possible: {said.why}.")
        return said.stdout

    def install(
        self, updates: Sequence[Update], *, deadline_s: int, tell: Callable[[str], None]
    ) -> tuple[int, str]:  # fmt: skip
        """Install these very versions; the exit code of apt-get, and what it and dpkg printed.

        It goes on if the connection breaks: dpkg that is stopped in its middle leaves a server that a person has to
        repair. All packages are fetched before the first one is unpacked.

        :raises UnreachableError: it has not ended in time, or the connection broke; it goes on
        """
        # What is new comes because something depends on it, and from the same lists.
        wanted = [each.wanted for each in updates if each.old]
        fetch = self._words("install", "--download-only", *_INSTALL, *wanted)
        act = self._words("install", *_INSTALL, *wanted)
        log, code = f"{self._folder}/log", f"{self._folder}/code"
        script = (
            f"( timeout -k 10 {deadline_s} {fetch} && {act} ) >{log} 2>&1; echo $? >{code}.new; mv {code}.new {code}"
        )
        # A session of its own, and no pipe to this one. Ansible appends to a line, so it may not end with an ampersand.
        started = remote.shell(f"(setsid sh -c {shlex.quote(script)} >/dev/null 2>&1 </dev/null &)", timeout_s=_READ_S)
        if started.code:
            raise RunbookError(f"apt-get could not be started: {started.why}.")
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            # The last line may have no end yet.
            said = remote.shell(f"tail -n 1 {log} 2>/dev/null; echo; cat {code} 2>/dev/null", timeout_s=_READ_S)
            lines = said.stdout.splitlines()
            if said.code == 0:
                return int(lines[-1]), remote.shell(f"cat {log}", timeout_s=_READ_S).stdout
            tell(lines[0].strip() if lines else "apt-get")
            time.sleep(_LOOK_S)
        raise UnreachableError(
            f"apt-get has not ended within {deadline_s} s. It goes on on the server, see {log} and "
            "/var/log/apt/term.log there; run the same command again once it has ended."
        )

    def _get(self, *words: str, timeout_s: int) -> remote.Said:
        return remote.run(["apt-get", "-q", *self._lists, *words], timeout_s=timeout_s, **_QUIET)

    def _words(self, *words: str) -> str:
        variables = [f"{name}={value}" for name, value in {"LC_ALL": "C", **_QUIET}.items()]
        return shlex.join(["env", *variables, "apt-get", "-q", "-y", *self._lists, *_OPTIONS, *words])


#: Nothing is removed, nothing is new that no update asks for, nothing goes back.
_INSTALL = ("--only-upgrade", "--no-remove")


#: Removes this user's folders of killed runs after two days; one in which an upgrade never ended is left to a person.
_CLEAR = (
    "find /tmp -maxdepth 1 -type d -name 'runbook-apt.??????' -user \"$(id -u)\" -mtime +1 -exec "
    "sh -c 'test -e \"$1/log\" && test ! -e \"$1/code\" || rm -rf \"$1\"' - '{}' ';' 2>/dev/null"
)


@contextmanager
def refreshed() -> Iterator[Apt]:
    """Apt with lists of its own, as the archives have them now.

    :raises UnreachableError: no answer of the server, or of an archive
    """
    # Others may look into it: apt fetches as the user _apt.
    made = remote.shell(
        f"{_CLEAR}; "
        'folder=$(mktemp -d /tmp/runbook-apt.XXXXXX) && chmod 755 "$folder" && '
        'mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" && echo "$folder"',
        timeout_s=_READ_S,
    )
    folder = made.stdout.strip()
    if made.code or not folder.startswith("/tmp/runbook-apt."):  # noqa: S108 - mktemp made it, for this run alone
        raise RunbookError(f"The server has no room in /tmp: {made.why}; make some.")
    is_over = True
    try:
        found = Apt(folder)
        found.fetch()
        yield found
    except RunbookError:
        # An upgrade may be at work in it, also where this run was stopped.
        is_over = remote.shell(f"test ! -e {folder}/log || test -e {folder}/code", timeout_s=_READ_S).code == 0
        raise
    finally:
        if is_over:
            with suppress(RunbookError):
                remote.shell(f"rm -rf {folder}", timeout_s=_READ_S)


def on_hold() -> list[str]:
    """Packages that a person holds back.

    :raises UnreachableError: no answer
    """
    return _lines(["apt-mark", "showhold"])


def unfinished() -> str:
    """What dpkg says of packages that are half installed; empty where all is well.

    :raises UnreachableError: no answer
    """
    return " ".join(_read(["dpkg", "--audit"]).split())


def installed() -> dict[str, str]:
    """The version of each installed package.

    :raises UnreachableError: no answer
    """
    listed = _lines(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n"])
    rows = [line.split(" ") for line in listed]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def needrestart() -> str:
    """What it prints, for a program; empty where it is not installed or fails.

    :raises UnreachableError: no answer
    """
    said = remote.run(["needrestart", "-b", "-r", "l"], timeout_s=_READ_S)
    return said.stdout if said.code == 0 else ""


def restart_services() -> None:
    """Let needrestart restart the services that it would not leave to a person; what is left it names afterwards.

    :raises UnreachableError: no answer
    """
    remote.run(["needrestart", "-q", "-r", "a"], timeout_s=_FETCH_S, **(_QUIET | {"NEEDRESTART_MODE": "a"}))


def reboot_asked() -> bool:
    """Whether a package asked for a restart of the server.

    :raises UnreachableError: no answer
    """
    return remote.shell("test -e /run/reboot-required", timeout_s=_READ_S).code == 0


def _read(words: Sequence[str]) -> str:
    said = remote.run(words, timeout_s=_READ_S)
    if said.code:
        raise UnreachableError(f"{words[0]} failed on the server: {said.why}.")
    return said.stdout


def _lines(words: Sequence[str]) -> list[str]:
    return [line.strip() for line in _read(words).splitlines() if line.strip()]
