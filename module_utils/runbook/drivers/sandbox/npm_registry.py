"""A registry of npm's on loopback, verdaccio, with packages of ours, and pnpm, which asks it.

Both programs come from npm, once, into a folder that is kept. Packages are written where verdaccio keeps them, so that
they can have been published at any time.
"""

from __future__ import annotations

import base64
import fcntl
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ansible.module_utils.runbook.drivers.sandbox.services import Service
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The program's file below its package, by package and version.
PNPM = ("pnpm", "12.4.0", "pnpm")
VERDACCIO = ("verdaccio", "6.8.0", "bin/verdaccio")
#: verdaccio 6.8 asks for a version of it that registries no longer give.
OVERRIDES = {"verdaccio": {"node-fetch": "2.6.7"}}
#: Some 60 MB are fetched, in seconds. Who has no network is told so at once; npm would try again for minutes.
_FETCH_S = 180
_ONCE = ("--fetch-retries=0", "--no-audit", "--no-fund", "--ignore-scripts")


def fetched(cache: Path, package: str, version: str, file: str) -> Path:
    """A program of npm's, fetched if it is not there. Of several processes one fetches, and the others wait for it.

    :param cache: where it is kept
    :raises RunbookError: no npm, or no network
    """
    folder = cache / f"{package}-{version}"
    # Written last, so that a fetching that was cut short starts over.
    complete = folder / "complete"
    found = folder / "node_modules" / package / file
    if complete.exists():
        return found
    npm, node = shutil.which("npm"), shutil.which("node")
    if not (npm and node):
        raise RunbookError(f"{package} is fetched by npm, which is not installed; install Node.js.")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return found
        manifest = {"private": True, "dependencies": {package: version}, "overrides": OVERRIDES.get(package, {})}
        (folder / "package.json").write_text(json.dumps(manifest))
        _run([npm, "install", *_ONCE], folder)
        installer = folder / "node_modules" / package / "install.js"
        if installer.exists():
            # By hand, because newer versions of npm ask first.
            _run([node, str(installer)], installer.parent)
        complete.touch()
    return found


def _run(words: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=_FETCH_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunbookError(f"{Path(words[0]).name} fetched nothing: {type(error).__name__}.") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise RunbookError(f"{Path(words[0]).name} fetched nothing (exit code {done.returncode}): {said[0]}")


#: verdaccio itself asks npm which advisories there are. Ours are in a file.
_AUDIT = "plugins/verdaccio-advisories"
_AUDIT_PLUGIN = """\
const { readFile } = require('fs');
module.exports = { default: class {
  register_middlewares(app) {
    app.post('/-/npm/v1/security/advisories/bulk', (request, response) => {
      readFile(`${__dirname}/../../advisories.json`, (error, text) => response.json(error ? {} : JSON.parse(text)));
    });
  }
} };
"""


@dataclass(frozen=True)
class Registry(Service):
    """verdaccio, open to everybody on this machine, without a registry above it."""

    name: ClassVar[str] = "the registry (verdaccio)"
    programs: ClassVar[tuple[str, ...]] = ("node",)
    package: ClassVar[str] = "nodejs"
    loss: ClassVar[str] = "package to update"
    ready: ClassVar[str] = "/-/ping"

    #: Where verdaccio itself is; see :func:`fetched`.
    verdaccio: Path = Path()

    @property
    def storage(self) -> Path:
        """Where it keeps packages."""
        return self.folder / "storage"

    def files(self) -> dict[str, str]:
        """Read by everybody, written by nobody."""
        config = {
            "storage": str(self.storage),
            "packages": {"**": {"access": "$all", "publish": "nobody"}},
            "log": {"type": "stdout", "format": "pretty", "level": "warn"},
            "web": {"enable": False},
            "uplinks": {},
            "plugins": str(self.folder / "plugins"),
            "middlewares": {"advisories": {"enabled": True}},
        }
        return {
            "config.yml": json.dumps(config, indent=1) + "\n",
            f"{_AUDIT}/index.js": _AUDIT_PLUGIN,
            f"{_AUDIT}/package.json": json.dumps({"name": "verdaccio-advisories", "version": "1.0.0"}),
        }

    def words(self, program: str) -> list[str]:
        """In the foreground."""
        config = str(self.folder / "config.yml")
        return [program, str(self.verdaccio), "--config", config, "--listen", f"127.0.0.1:{self.port}"]

    def publish(
        self, name: str, version: str, published_at: str, files: Mapping[str, str] | None = None, **manifest: Any
    ) -> None:
        """Put a version of a package there.

        :param published_at: ISO 8601 in UTC
        :param files: beside its package.json; an index.js that says its version where it has none
        :param manifest: more of its package.json
        """
        folder = self.storage / name
        folder.mkdir(parents=True, exist_ok=True)
        about = {"name": name, "version": version, "main": "index.js"} | manifest
        text = {"index.js": f"module.exports = {json.dumps(version)};\n"} | dict(files or {})
        data = _tarball({"package.json": json.dumps(about)} | text)
        file = f"{name.rpartition('/')[2]}-{version}.tgz"
        (folder / file).write_bytes(data)
        path = folder / "package.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {
            "name": name, "versions": {}, "time": {"created": published_at}, "dist-tags": {}, "_uplinks": {},
            "_distfiles": {}, "_attachments": {}, "_rev": "1-1", "_id": name, "readme": "",
        }  # fmt: skip
        integrity = base64.b64encode(hashlib.sha512(data).digest()).decode()
        # verdaccio writes its own address over this one.
        where = f"http://localhost/{name}/-/{file}"
        known["versions"][version] = about | {
            "_id": f"{name}@{version}",
            "dist": {"integrity": f"sha512-{integrity}", "shasum": hashlib.sha1(data).hexdigest(), "tarball": where},  # noqa: S324 - the format asks for it; integrity is compared
        }
        known["time"] |= {version: published_at, "modified": published_at}
        known["dist-tags"] = {"latest": version}
        known["_attachments"][file] = {"shasum": known["versions"][version]["dist"]["shasum"]}
        path.write_text(json.dumps(known))

    def advise(self, package: str, vulnerable: str, name: str, title: str) -> None:
        """Let ``pnpm audit`` find an advisory.

        :param vulnerable: a range of versions
        :param name: of the advisory, at GitHub
        """
        said = {
            "id": 1, "url": f"https://github.com/advisories/{name}", "title": title, "severity": "high",
            "vulnerable_versions": vulnerable, "cwe": [], "cvss": {"score": 7.5, "vectorString": None},
        }  # fmt: skip
        (self.folder / "advisories.json").write_text(json.dumps({package: [said]}))


def _tarball(files: Mapping[str, str]) -> bytes:
    """As npm packs it; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)
