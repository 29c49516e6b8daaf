"""Folders of ours hold data, keys and logs: they are nobody else's, whatever the umask, and whoever made them."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = "lock"


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


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A folder that only this user may read, for the block; those of killed runs are removed.

    Who lives holds the lock of its folder, and the kernel lets go of it with the process.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            _clear(old)
    with ExitStack() as stack:
        while True:
            made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
            with suppress(FileNotFoundError):
                lock = stack.enter_context((folder / _LOCK).open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Until this moment another run may have taken it for a dead one's.
                if os.fstat(lock.fileno()).st_nlink:
                    break
        yield folder


def _clear(old: Path) -> None:
    """Remove a folder of this user whose lock nobody holds.

    :raises OSError: somebody does, or it is not such a folder
    """
    found = old.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    # Whatever lies there under that name: nothing is followed, and nothing waited for.
    lock = os.open(old / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        os.close(lock)
