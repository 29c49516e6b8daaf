"""Folders of ours hold data, keys and logs: they are nobody else's, whatever the umask, and whoever made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def closed(path: Path, mode: int = 0o700) -> None:
    """Make a folder with no more rights than ``mode``, or take the others away from one that is there.

    A folder above it that has to be made is one in which only its owner may put something.

    :raises OSError: it cannot be made, or it is more open and belongs to somebody else
    """
    for above in reversed(path.parents):
        if not above.exists():
            above.mkdir(mode=0o755, exist_ok=True)
    path.mkdir(mode=mode, exist_ok=True)
    found = path.stat().st_mode & 0o777
    if found & ~mode:
        path.chmod(found & mode)
