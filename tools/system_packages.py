"""System packages that the tests use, beside what pip can bring: installed where possible, else said loudly.

Root on a Debian or Ubuntu gets what is missing from apt. Anybody else is told what to install, and which tests do not
run without it. The project itself needs none of them. The container engine is the affair of container_engine.py.

Run as a program, as .ci/run does, it also installs servers that a person's machine would start at its next boot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

APT_TIMEOUT_S = 300
#: Debian asks this program before it starts what it installed.
POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Need:
    """A program that tests use."""

    program: str
    apt: str
    purpose: str
    #: Whether a machine serves it from its next boot on; then nobody's own machine gets it.
    serves: bool = False

    def found(self) -> str | None:
        """Where it is; Debian keeps daemons, and what belongs to a version of PostgreSQL, where users do not look."""
        servers = [str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin")]
        places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *servers]
        return shutil.which(self.program, path=os.pathsep.join(places))


class Extension(Need):
    """An extension of PostgreSQL that has no program, only a library."""

    def found(self) -> str | None:
        """Where a server of this machine finds it."""
        return next((str(path) for path in Path("/usr/lib/postgresql").glob(f"*/lib/{self.program}.so")), None)


NEEDS = (
    Need("pgbouncer", "pgbouncer", "tests with a transaction pooler before the database"),
    Need("faketime", "faketime", "tests with a clock that is off"),
    Need("age", "age", "tests of backups that are encrypted with age"),
    Need("gpg", "gnupg", "tests of backups that are encrypted with GPG"),
    Need("promtool", "prometheus", "tests of the alert rules, and of watching metrics after a change"),
    Need(
        "nginx", "nginx-light", "tests of maintenance mode, and of renewed certificates, on a real nginx", serves=True
    ),
    Need("prometheus-alertmanager", "prometheus-alertmanager", "tests of silences on a real Alertmanager", serves=True),
    Need("chromium", "chromium", "tests of real pages by Lighthouse"),
    Need("node", "nodejs", "tests of pages, and of updates of an application"),
    Need("npm", "npm", "tests of real pages by Lighthouse, and of updates of an application"),
    Need("logrotate", "logrotate", "tests of the rotation of log files", serves=True),
    Need("pebble", "pebble", "tests of the renewal of certificates by a real ACME server", serves=True),
    # Of Debian 12; elsewhere its name bears another version, and the line at the end says what is missing.
    Need("pg_repack", "postgresql-15-repack", "tests of pg_repack, the way to compact tables while everybody works"),
    Extension("hypopg", "postgresql-15-hypopg", "tests of indexes that the planner is asked about (HypoPG)"),
)


def apt(*arguments: str) -> str | None:
    """Run apt-get; None when it worked, else its last words."""
    patience = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60"]
    words = ["apt-get", "--yes", "--quiet", "-o", "Dpkg::Use-Pty=0", *patience, *arguments]
    # Daemons that come along (prometheus, pgbouncer) are not wanted as services: systemctl then starts none.
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env=environ,
            check=False,
            timeout=APT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get gave no end within {APT_TIMEOUT_S} s"
    lines = (done.stderr or done.stdout).strip().splitlines()
    return None if done.returncode == 0 else (lines or ["apt-get said nothing"])[-1]


def install(missing: list[Need]) -> str:
    """Install what is missing; why that cannot be done, or an empty text."""
    if os.geteuid() != 0:
        return "only root may install packages"
    if shutil.which("apt-get") is None or not Path("/etc/debian_version").exists():
        return "this is neither Debian nor Ubuntu"
    names = [need.apt for need in missing]
    failure = apt("install", "--no-install-recommends", *names)
    if failure:
        # Fresh images hold no package lists.
        failure = apt("update") or apt("install", "--no-install-recommends", *names)
    if failure and len(names) > 1:
        # One that this release does not have must not keep the others out.
        failures = [apt("install", "--no-install-recommends", name) for name in names]
        failure = next(filter(None, failures), None)
    return failure or ""


@contextmanager
def nothing_begins_to_serve() -> Iterator[None]:
    """For the block, no service starts because its package is installed, with systemd or without."""
    if POLICY.exists() or os.geteuid() != 0:
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def missing_packages(*, servers: bool = False) -> list[str]:
    """One line for each thing that is not there, once everything possible was tried.

    :param servers: whether packages that serve may be installed too
    """
    missing = [need for need in NEEDS if need.found() is None]
    wanted = [need for need in missing if servers or not need.serves]
    why = install(wanted) if wanted else ""
    left = "it would serve from the next boot on, so only .ci/run installs it"
    return [
        f"{need.program} is missing ({(why or 'the package installed no such program') if need in wanted else left}; "
        f"install {need.apt}): without it there are no {need.purpose}"
        for need in missing
        if need.found() is None
    ]


def main() -> int:
    """Print a table of what is there and what is not."""
    with nothing_begins_to_serve():
        lines = missing_packages(servers=True)
    for need in NEEDS:
        print(f"{need.program:<12} {need.found() or 'missing':<28} {need.purpose}")
    for line in lines:
        print(f"MISSING: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
