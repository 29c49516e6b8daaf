"""A copy of an application's files, of one commit, with pnpm on it; it is gone afterwards."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import folders
from ansible.module_utils.runbook.drivers.updates import lock_files
from ansible.module_utils.runbook.drivers.updates.pnpm import Pnpm
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.updates.packages import PNPM_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.deploy.git import Repository

MANIFEST = "package.json"
#: What an update may change.
_WRITTEN = (MANIFEST, PNPM_LOCK, "pnpm-workspace.yaml")


class Application:
    """The files of one commit in a folder, and pnpm."""

    def __init__(self, folder: Path, pnpm: Pnpm) -> None:
        self._folder = folder
        self.pnpm = pnpm
        if not (folder / PNPM_LOCK).is_file():
            raise RunbookError(
                f"{PNPM_LOCK}: the application has none, so nothing says which versions it has; commit the one that "
                "pnpm install writes."
            )
        self._original = self._written()

    def lock(self) -> list[Any]:
        """The documents of its lock file."""
        return lock_files.documents(self._folder / PNPM_LOCK)

    def scripts(self) -> set[str]:
        """Names of its scripts.

        :raises RunbookError: its package.json cannot be read
        """
        found = _json(self._folder / MANIFEST).get("scripts")
        return set(found) if isinstance(found, dict) else set()

    def changed(self) -> dict[str, bytes]:
        """The files that an update has changed, by their paths."""
        return {name: data for name, data in self._written().items() if self._original.get(name) != data}

    def changelog(self, package: str, names: tuple[str, ...]) -> tuple[str, str]:
        """The changelog that an installed package ships, and where else one may be; both empty where neither is.

        :param names: of the file, in lower case
        """
        folder = self._folder / "node_modules" / package
        try:
            found = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
        except OSError:
            return "", ""
        text = next((found[name].read_text(errors="replace") for name in names if name in found), "")
        said = _json(folder / MANIFEST)
        where = said.get("repository") or said.get("homepage") or ""
        return text, str(where.get("url", "") if isinstance(where, dict) else where)

    def _written(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self._folder)): path.read_bytes()
            for name in _WRITTEN
            for path in self._folder.rglob(name)
            if "node_modules" not in path.parts and path.is_file() and not path.is_symlink()
        }


@contextmanager
def copy_of(repository: Repository, commit: str, program: str, clock: Clock) -> Iterator[Application]:
    """The files of a commit that was fetched.

    :param program: pnpm
    :param clock: when all that pnpm does must be over
    :raises RunbookError: there is no pnpm, or an older one; the application has no lock file
    """
    with folders.temporary("runbook-app-") as work:
        folder = work / "app"
        repository.export(commit, folder)
        yield Application(folder, Pnpm(program, folder, work / "home", clock))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        raise RunbookError(f"{path.name}: the application's cannot be read; it must be JSON.") from None
    return found if isinstance(found, dict) else {}
