"""Where runs are kept, one folder each, ``<UTC time>-<playbook>``, below one base; and of which inventory they are."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: In the order of their weight.
ENVIRONMENTS = ("production", "staging", "sandbox")


def slug(playbook: str) -> str:
    """The name of a playbook as part of a folder's name.

    >>> slug("/srv/playbooks/weekly db.yml")
    'weekly-db'
    """
    stem = re.sub(r"\.ya?ml$", "", playbook.rsplit("/", 1)[-1])
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:64].strip("-.") or "playbook"


def place_of(inventory: Sequence[str] | None, environment: str, otherwise: str = "") -> str:
    """The inventory of a run, for people: its environment, or its folder's name where that says more.

    >>> place_of(["inventories/sandbox_supabase"], "sandbox"), place_of(["/runner/inventory/hosts"], "production")
    ('sandbox_supabase', 'production')
    """
    folders = [Path(str(source)).name for source in inventory or ()]
    named = [name for name in folders if name.startswith(environment or ENVIRONMENTS)]
    return named[0] if named else environment or otherwise or next(iter(folders), "unknown")


def environment_of(record: Mapping[str, Any]) -> str:
    """The environment of a run; empty where nobody said it. Records of earlier versions have only what was proven."""
    return str(record.get("environment") or next(iter(record["environments"]), ""))


def place_of_record(record: Mapping[str, Any], otherwise: str = "") -> str:
    """As :func:`place_of`.

    :param otherwise: the inventory of a run that does not say which it had
    """
    return place_of(record["inventory"], environment_of(record), otherwise)


def make_directory(base: Path, name: str) -> Path:
    """A new folder ``name`` below ``base``, or ``name-2`` … where another run of the same second was faster.

    :raises OSError: it could not be made
    """
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(base))
    for folder in (*reversed(base.parents), base):
        make_readable(folder)
    if base.stat().st_mode & 0o022 and base.stat().st_uid == os.geteuid():
        # Whoever may write there could put a record in the place of ours.
        base.chmod(base.stat().st_mode & 0o7755)
    for number in range(1, 1000):
        path = base / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            _finish(path, 0o700)
            return path
    raise FileExistsError(f"{base / name} and 998 more exist already")


def give(handle: int, folder: Path) -> None:
    """Give what root made in a folder of another user to that user, whose own runs have to read and replace it.

    :param handle: an open file or folder
    """
    if os.geteuid() == 0 and (owner := folder.stat()).st_uid:
        with suppress(OSError):  # a user that this namespace does not know
            os.fchown(handle, owner.st_uid, owner.st_gid)


def give_with_files(folder: Path) -> None:
    """As :func:`give`, of a folder that a module made, and of the files in it.

    :raises OSError: one of them cannot be opened
    """
    if os.geteuid() == 0 and folder.is_dir() and folder.parent.stat().st_uid:
        for path in (folder, *folder.iterdir()):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                give(handle, folder.parent)
            finally:
                os.close(handle)


def make_readable(path: Path) -> None:
    """Make a folder in which others may look, whatever the umask; one that is there keeps its mode.

    :raises OSError: it could not be made
    """
    if not path.exists():
        with suppress(FileExistsError):
            path.mkdir(mode=0o755)
            _finish(path, 0o755)


def _finish(path: Path, mode: int) -> None:
    """Have a new folder the mode that was meant, and the owner of the one above."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(handle, mode)
        give(handle, path.parent)
    finally:
        os.close(handle)


def earlier_runs(base: Path, playbook: str) -> list[Path]:
    """Folders of runs of this playbook, newest first; none where ``base`` cannot be read."""
    pattern = re.compile(rf"(?P<second>\d{{8}}T\d{{6}}Z)-{re.escape(slug(playbook))}(-(?P<number>\d+))?")
    found: list[tuple[str, int, Path]] = []
    with suppress(OSError):
        for path in base.iterdir():
            match = pattern.fullmatch(path.name)
            if match is not None:
                found.append((match["second"], int(match["number"] or 1), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def git_commit(folder: Path) -> str | None:
    """The commit that ``folder`` is checked out at, read from git's files; None where that cannot be known."""
    with suppress(OSError):
        git = folder / ".git"
        if git.is_file():  # a worktree or a submodule
            git = folder / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head or None
        reference = head.removeprefix("ref:").strip()
        common = git
        with suppress(OSError):
            common = git / (git / "commondir").read_text().strip()
        for base in (git, common):
            with suppress(OSError):
                return (base / reference).read_text().strip() or None
        for line in (common / "packed-refs").read_text().splitlines():
            if line.endswith(f" {reference}"):
                return line.split(" ", 1)[0]
    return None
