"""Real git repositories for tests: a bare one as a server has it, and what a developer does to it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WHO = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
       {"NAME": "Ada", "EMAIL": "ada@example.test", "DATE": "2026-01-01T00:00:00Z"}.items()}  # fmt: skip


@dataclass
class Remote:
    """A bare repository in a folder, and a work tree whose pushes are a developer's."""

    path: Path
    work: Path

    @classmethod
    def new(cls, folder: Path, files: Mapping[str, str], branch: str = "main") -> Remote:
        """One with a first commit on ``branch``."""
        made = cls(folder / "remote.git", folder / "work")
        folder.mkdir(parents=True, exist_ok=True)
        made._git("init", "--quiet", "--bare", f"--initial-branch={branch}", str(made.path), at=folder)
        made._git("init", "--quiet", f"--initial-branch={branch}", str(made.work), at=folder)
        made.push(branch, files, "First commit")
        return made

    @property
    def root(self) -> str:
        """Its first commit."""
        return self("rev-list", "--max-parents=0", "--first-parent", "HEAD")

    def options(self, **more: Any) -> dict[str, Any]:
        """As options of a module."""
        return {
            "repository": str(self.path),
            "repository_root": self.root,
            "committer_email": "ops@example.test",
            **more,
        }

    def push(self, branch: str, files: Mapping[str, str | None], message: str = "Change", onto: str = "") -> str:
        """Commit files to a branch as a developer, and push it; None removes one. The commit."""
        self._git("fetch", "--quiet", str(self.path), "+refs/heads/*:refs/remotes/origin/*")
        start = onto or (f"origin/{branch}" if self.head(branch) else "")
        if start:
            self._git("checkout", "--quiet", "-B", branch, start)
        for name, text in files.items():
            if text is None:
                (self.work / name).unlink()
            else:
                (self.work / name).parent.mkdir(parents=True, exist_ok=True)
                (self.work / name).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", message)
        self._git("push", "--quiet", "--force", str(self.path), f"HEAD:refs/heads/{branch}")
        return self.head(branch)

    def merge(self, branch: str, other: str) -> str:
        """Merge ``other`` into ``branch`` as a server does, with a merge commit. The commit."""
        self._git("fetch", "--quiet", str(self.path), "+refs/heads/*:refs/remotes/origin/*")
        self._git("checkout", "--quiet", "-B", branch, f"origin/{branch}")
        self._git("merge", "--quiet", "--no-ff", "-m", f"Merge {other}", f"origin/{other}")
        self._git("push", "--quiet", str(self.path), f"HEAD:refs/heads/{branch}")
        return self.head(branch)

    def head(self, branch: str) -> str:
        """The commit of a branch; empty where there is none."""
        done = subprocess.run(
            ["git", "-C", str(self.path), "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def show(self, commit: str, path: str) -> str:
        """A file as it is in a commit."""
        return self._git("show", f"{commit}:{path}", at=self.path)

    def hook(self, name: str, script: str) -> None:
        """Let the server run a hook, as ``pre-receive``."""
        path = self.path / "hooks" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def __call__(self, *words: str) -> str:
        """What git says in the bare repository."""
        return self._git(*words, at=self.path).strip()

    def _git(self, *words: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=at or self.work, capture_output=True, text=True, check=False,
            env=os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        )  # fmt: skip
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout
