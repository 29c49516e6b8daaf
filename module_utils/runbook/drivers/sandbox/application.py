"""The application of the sandbox: its git repository, a registry with its packages, its pages, and what plays Vercel.

Of its packages one has a known vulnerability, which an update within its range repairs, and one is a major version
behind. git, pnpm and the registry are real; Vercel, the sites of production and staging and the database of advisories
are fakes of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ansible.module_utils.runbook.drivers import child_process
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.sandbox.npm_registry import PNPM, VERDACCIO, Registry, fetched
from ansible.module_utils.runbook.drivers.sandbox.services import STARTED, Outside, Services
from ansible.module_utils.runbook.drivers.sandbox.website import Website
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.sandbox.sandbox import Home

#: What it has in its folder.
FOLDERS = ("registry", "repository.git", "hosting", "state", "website")
#: Branches of the repository.
MAIN, STAGING = "main", "staging"
#: Long ago, so that no version is younger than a release age.
_OLD, _NEW = "2026-01-05T00:00:00.000Z", "2026-03-02T00:00:00.000Z"
#: Of whom the first commit is.
_WHO = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "Ada Byron", "EMAIL": "ada@example.com", "DATE": "2026-01-05T00:00:00Z"}.items()
}
_MANIFEST = {
    "name": "mental-scribe-web",
    "version": "1.0.0",
    "private": True,
    "scripts": {
        "lint": "node --check index.js",
        "test": "node test.js",
        "build": "node -e \"console.log(require('./index.js').page('built'))\"",
        # What it has of its own for performance; for the rest the checks of this project stand alone.
        "analyze:bundle": "node -e \"console.log('index.js', require('fs').statSync('index.js').size, 'bytes')\"",
    },
    "dependencies": {"note-markup": "^1.2.0", "page-router": "^1.0.0"},
}
_SOURCES = {
    "index.js": (
        "const { escape } = require('note-markup');\nconst { route } = require('page-router');\n"
        "exports.page = (text) => route('/', `<h1>${escape(text)}</h1>`);\n"
    ),
    "test.js": (
        "const assert = require('assert');\nconst { page } = require('./index.js');\n"
        "assert.ok(page('a').includes('<h1>a</h1>'));\n"
    ),
}
_ROUTER_LOG = """\
# Changelog

## 2.0.0

### Breaking changes

- `redirect()` is gone: return a `Response` with a status and a location.
- Routes are matched with the slash at their end; `/a` and `/a/` are two.

### Added

- Streaming.

## 1.0.0

- First release.
"""


@dataclass(frozen=True)
class Hosting(Outside):
    """Vercel, the sites of production and staging, and the database of advisories, in one program."""

    name: ClassVar[str] = "fakes of Vercel, its sites and OSV"

    #: What it deploys.
    repository: Path = Path()

    def words(self, program: str) -> list[str]:
        """As :meth:`Outside.words`."""
        return [program, "-P", "-m", "fakes.serve_application", str(self.folder), str(self.repository)]


class Application(Services):
    """The parts of the application, in the folder that is theirs."""

    def run(self, fakes_path: Path, cache: Path, *, would: bool) -> None:
        """Start what does not run, and make what is not there.

        :param fakes_path: folder with the Python package ``fakes``
        :param cache: where pnpm and verdaccio are kept, which npm fetches once
        :param would: nothing is started
        :raises RunbookError: something cannot be fetched, made or started
        """
        if not (fakes_path / "fakes/serve_application.py").is_file():
            raise RunbookError(
                f"fakes_path: {fakes_path} holds no fakes/serve_application.py; name the folder that does."
            )
        home = self.home
        if would:
            self.started = [] if self.were_started else ["the application"]
            return
        closed(home.path / "state")
        pnpm, verdaccio = fetched(cache, *PNPM), fetched(cache, *VERDACCIO)
        registry = self._up(Registry(home.path / "registry", verdaccio=verdaccio), would=False)
        repository = home.path / "repository.git"
        if _registry_of(repository) != registry.url:
            make(repository, registry, pnpm)
        hosting = self._up(Hosting(home.path / "hosting", tests=fakes_path, repository=repository), would=False)
        website = Website(home.path / "website")
        if not website.missing():
            website.build(fakes_path)
        website = self._up(website, would=False)
        pages = {"url": website.url, "access_log": str(website.access_log)}
        known = {"website": pages} if website.process else {}
        told = {
            "repository": str(repository),
            "root": _git(repository, "rev-list", "--max-parents=0", "--first-parent", MAIN).strip(),
            "pnpm": str(pnpm),
            "registry": registry.url,
        }
        self._note(STARTED, {"application": told, **known, **hosting.services()})

    @property
    def home(self) -> Home:
        """The folder."""
        return self._home


def make(repository: Path, registry: Registry, pnpm: Path) -> None:
    """Make the repository, whose lock file is of the time before the newer versions, then publish these.

    :raises RunbookError: git or pnpm does not do it
    """
    shutil.rmtree(repository, ignore_errors=True)
    shutil.rmtree(registry.storage, ignore_errors=True)
    markup = {"index.js": "exports.escape = (text) => text;\n"}
    repaired = {"index.js": "exports.escape = (text) => String(text).replace(/</g, '&lt;');\n"}
    router = {"index.js": "exports.route = (path, body) => `${path} ${body}`;\n"}
    registry.publish("note-markup", "1.2.0", _OLD, markup)
    registry.publish("page-router", "1.0.0", _OLD, router)
    work = Path(tempfile.mkdtemp(prefix="runbook-application-"))
    try:
        files = {**_SOURCES, "package.json": json.dumps(_MANIFEST, indent=2) + "\n", ".npmrc": _npmrc(registry.url)}
        for name, text in files.items():
            (work / name).write_text(text)
        _program([str(pnpm), "install", "--lockfile-only"], work, {"HOME": str(work / ".home"), "CI": "true"})
        shutil.rmtree(work / ".home", ignore_errors=True)
        _git(work, "init", "--quiet", f"--initial-branch={MAIN}")
        _git(work, "add", "--all")
        _git(work, "commit", "--quiet", "-m", "The application")
        _git(work, "clone", "--quiet", "--bare", str(work), str(repository))
        _git(repository, "branch", STAGING, MAIN)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    registry.publish("note-markup", "1.2.1", _NEW, repaired)
    registry.advise("note-markup", "<1.2.1", "GHSA-sand-box0-0001", "Text of a note becomes part of the page")
    registry.publish(
        "page-router", "2.0.0", _NEW, router | {"CHANGELOG.md": _ROUTER_LOG},
        repository={"url": "https://example.com/page-router"},
    )  # fmt: skip


def _npmrc(url: str) -> str:
    return f"registry={url}/\n"


def _registry_of(repository: Path) -> str:
    """The registry that the application asks; empty where there is no repository."""
    if not repository.is_dir():
        return ""
    return _git(repository, "show", f"{MAIN}:.npmrc").strip().removeprefix("registry=").rstrip("/")


def _git(folder: Path, *words: str) -> str:
    settings = _WHO | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    return _program(["git", *words], folder, settings)


def _program(words: list[str], folder: Path, more: Mapping[str, str]) -> str:
    env: dict[str, Any] = {"PATH": os.environ.get("PATH", ""), **more}
    try:
        done = child_process.run(words, env=env, cwd=folder, timeout_s=120)
    except OSError as error:
        raise RunbookError(f"{words[0]} cannot be started: {error.strerror}; install it.") from None
    if done.code != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["without a word"]
        raise RunbookError(f"{Path(words[0]).name} {words[1]} failed: {said[-1][:300]}")
    return done.stdout.decode(errors="replace")
