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
        super().__init__()
        self.repository = repository
        #: States that the builds of a branch go through, where they are not those of others.
        self.builds: dict[str, list[str]] = {}
        self.seen: set[tuple[str, str]] = set()
        #: Whether pushes are noticed.
        self.listens = True
        self.look()

    def look(self) -> None:
        """Deploy what was pushed since the last look."""
        words = ["git", "-C", str(self.repository), "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)"]
        done = subprocess.run([*words, "refs/heads"], capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
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
