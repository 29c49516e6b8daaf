"""Vercel as it is connected to a git repository: it deploys what is pushed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from fakes.vercel import FakeVercel

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.http import Asked, Reply


class ConnectedVercel(FakeVercel):
    """A project that deploys each branch of a repository.

    :param repository: a bare one on this machine; what it has now was deployed long ago
    """

    def __init__(self, repository: Path) -> None:
        # What it has now is deployed by the first look.
        before = _git(repository, "rev-list", "--first-parent", "--max-count=4", "main").split()[:0:-1]
        super().__init__(commits=before)
        self.repository = repository
        #: States that the builds of a branch go through, where they are not those of others.
        self.builds: dict[str, list[str]] = {}
        self.seen: set[tuple[str, str]] = set()
        #: Whether pushes are noticed.
        self.listens = True
        coming, self.build = self.build, ["READY"]
        self.look()
        self.build = coming

    def look(self) -> None:
        """Deploy what was pushed since the last look."""
        heads = _git(self.repository, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
        for line in heads.splitlines():
            branch, _, sha = line.partition(" ")
            if (branch, sha) not in self.seen:
                self.seen.add((branch, sha))
                self.pushed(branch, sha, build=list(self.builds.get(branch, [])) or None)

    def answer(self, asked: Asked) -> Reply:
        """What the API answers, after a look at the repository."""
        if self.listens:
            with self._lock:
                self.look()
        return super().answer(asked)


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, check=True)
    return done.stdout
