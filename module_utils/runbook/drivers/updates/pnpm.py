"""pnpm on a copy of an application, which is nobody else's: a folder that is gone afterwards.

Whatever the application and its packages run of their own, gets no variable of this process but those listed here, a
home of its own, and no repository, and nothing of it goes on running once the program has ended. It runs as the same
user all the same: what that user may read, it may read.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers import child_process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.updates.audit import LEAST_MAJOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.clock import Clock

#: What a program needs to run at all, and to reach a registry.
_INHERITED = (
    "PATH", "TMPDIR", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
    "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
#: https://pnpm.io/settings
_SETTINGS = {
    # The pnpm that is here is used, whichever the application names.
    "pm_on_fail": "ignore",
    "manage_package_manager_versions": "false",
    # A version younger than the release age is not taken; without this pnpm would write it down as an exception.
    "minimum_release_age_strict": "true",
    "fetch_retries": "1",
    "fetch_retry_mintimeout": "1000",
    "fetch_timeout": "30000",
    "update_notifier": "false",
}
_ERROR = re.compile(r"ERR_PNPM_[A-Z0-9_]+")
#: A program's last lines say why it ended.
_TAIL_LINES = 40


class Pnpm:
    """The package manager of an application in ``folder``.

    :param program: its name, or where it is
    :param home: a folder for what it keeps; it is made where it is missing
    :param clock: when all of it must be over
    :raises RunbookError: there is no pnpm, or an older one (``unknown``)
    """

    def __init__(self, program: str, folder: Path, home: Path, clock: Clock) -> None:
        self.folder = folder
        self._home = home
        self._clock = clock
        home.mkdir(exist_ok=True)
        self._program = shutil.which(program) or ""
        if not self._program:
            raise RunbookError(
                f"pnpm: {program} is not there, so nothing is known of the packages; install pnpm {LEAST_MAJOR} or "
                "newer on this machine.",
                status=Status.UNKNOWN, code="no_result",
            )  # fmt: skip
        # Not in the application's folder, where it would become the version that this one names.
        said = self._call([self._program, "--version"], at=home).stdout.decode(errors="replace").strip()
        found = re.match(r"(\d+)\.", said)
        if found is None or int(found[1]) < LEAST_MAJOR:
            raise RunbookError(
                f"pnpm {said or 'here'} gives no result that can be relied on, as npm retired what older ones ask in "
                f"2026; install pnpm {LEAST_MAJOR} or newer on this machine.",
                status=Status.UNKNOWN, code="no_result",
            )  # fmt: skip
        self.version = said

    def outdated(self, *, of_any_age: bool = False) -> tuple[str, int, str]:
        """What ``pnpm outdated`` prints: its answer, its exit code, and the code of its error.

        :param of_any_age: count versions too that are younger than the application's release age
        """
        settings = {"minimum_release_age": "0"} if of_any_age else {}
        done = self._pnpm("outdated", "--format", "json", settings=settings)
        return done.stdout.decode(errors="replace"), done.code or 0, _code(done)

    def audit(self) -> tuple[str, int]:
        """What ``pnpm audit`` prints, and its exit code; ``rules/updates/audit.py`` says what they mean.

        Where it prints nothing, its errors stand in the place of it.
        """
        done = self._pnpm("audit", "--json")
        return (done.stdout or done.stderr).decode(errors="replace"), done.code or 0

    def published(self, package: str) -> str:
        """What ``pnpm view`` prints of when each version was published; empty where it says nothing."""
        done = self._pnpm("view", package, "time", "--json")
        return done.stdout.decode(errors="replace") if done.code == 0 else ""

    def release_age_min(self) -> str:
        """The application's own ``minimumReleaseAge`` in minutes; not a number where it sets none."""
        return self._pnpm("config", "get", "minimumReleaseAge").stdout.decode(errors="replace").strip()

    def update(self, specs: Sequence[str]) -> None:
        """Let the lock file name newer versions; nothing is installed and nothing run.

        :param specs: ``name`` within its range, ``name@range`` with another one; all within theirs where it is empty
        :raises RunbookError: pnpm does not find them (code ``pnpm_update``)
        """
        done = self._pnpm("update", "--lockfile-only", *specs)
        if done.code != 0:
            raise RunbookError(
                f"pnpm update: {_code(done) or 'it failed'}{_why(done)}; nothing was pushed.",
                status=Status.UNKNOWN, code="pnpm_update", pnpm_code=_code(done),
            )  # fmt: skip

    def install(self) -> str:
        """Install exactly what the lock file names; empty, or why that does not work."""
        done = self._pnpm("install", "--frozen-lockfile")
        return "" if done.code == 0 else f"pnpm install: {_code(done) or 'it failed'}{_why(done)}"

    def script(self, name: str) -> tuple[bool, list[str]]:
        """Run a script of the application: whether it was green, and its last lines."""
        done = self._pnpm("run", name)
        lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        return done.code == 0, [line for line in lines if line.strip()][-_TAIL_LINES:]

    def _pnpm(self, *words: str, settings: dict[str, str] | None = None) -> child_process.Finished:
        return self._call([self._program, *words], at=self.folder, settings=settings)

    def _call(
        self, words: Sequence[str], *, at: Path, settings: dict[str, str] | None = None
    ) -> child_process.Finished:
        own = {"HOME": str(self._home), "LANG": "C.UTF-8", "CI": "true", "NO_COLOR": "1"}
        chosen = {
            f"{prefix}_config_{name}": value
            for name, value in (_SETTINGS | (settings or {})).items()
            for prefix in ("npm", "pnpm")
        }
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        done = child_process.run(
            words, env=inherited | own | chosen, cwd=at, timeout_s=max(1.0, self._clock.left_s()), trusted=False
        )
        if done.code is None:
            raise RunbookError(
                f"pnpm {' '.join(words[1:3])} did not end in the time that was left, and was stopped; give more in "
                "deadline_s. Nothing was pushed.",
                status=Status.UNKNOWN, code="pnpm_slow",
            )  # fmt: skip
        return done


def _code(done: child_process.Finished) -> str:
    """The first of pnpm's own codes in what it printed."""
    found = _ERROR.search((done.stderr + done.stdout).decode(errors="replace"))
    return found[0] if found else ""


def _why(done: child_process.Finished) -> str:
    """What pnpm says under its code, in one line."""
    said = (done.stderr or done.stdout).decode(errors="replace")
    lines = [line.strip(" ×╰─▶│\t") for line in said.splitlines() if not line.startswith(("✓", "?", "Error:"))]
    text = " ".join(line for line in lines if line and not line.startswith("help:"))
    return f" ({text[:300]})" if text else ""
