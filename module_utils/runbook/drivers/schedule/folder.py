"""A folder that an engine reads: the files there that are ours, and how they are made, changed and removed."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.schedule.files import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(folder: Path) -> dict[str, str]:
    """The files of a folder that begin with our mark, by their names.

    :raises RunbookError: the folder is missing or cannot be read
    """
    try:
        found = [path for path in sorted(folder.iterdir()) if path.is_file()]
        texts = {path.name: path.read_text(errors="replace") for path in found}
    except OSError as error:
        raise RunbookError(
            f"path: {folder} cannot be read ({error.strerror}); make the folder, or run as a user who may."
        ) from None
    return {name: text for name, text in texts.items() if text.startswith(MARK)}


def refuse_others(folder: Path, ours: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse to write over a file that is not ours.

    :raises RunbookError: there is one
    """
    for name in wanted:
        if name not in ours and os.path.lexists(folder / name):
            raise RunbookError(
                f"path: {folder / name} was not made by this project (its first line is not ours); move it away, or "
                "name another folder."
            )


def write(folder: Path, wanted: Mapping[str, str], gone: list[str]) -> None:
    """Write each file by one rename, then remove those that are over.

    :raises RunbookError: one could not be written; those before it stand
    """
    for name, text in wanted.items():
        made = folder / f".{name}.{os.getpid()}"
        try:
            made.write_text(text)
            made.chmod(0o644)
            made.replace(folder / name)
        except OSError as error:
            with suppress(OSError):
                made.unlink()
            raise RunbookError(f"path: {folder / name} cannot be written ({error.strerror}).") from None
    for name in gone:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise RunbookError(f"path: {folder / name} cannot be removed ({error.strerror}).") from None


def require_machine(user: str, environment_file: str, runs: Path) -> None:
    """Refuse to start units on a machine where each of them would fail, at night and without a record.

    :param runs: where records are kept, unless the file of the environment names another folder
    :raises RunbookError: the user, the file or the folder is missing, or the folder belongs to somebody else
    """
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise RunbookError(
            f"user: there is no user {user} on this machine; make one (docs/howto/schedules.md), or name another one."
        ) from None
    try:
        said = Path(environment_file).read_text(errors="replace")
    except PermissionError:
        said = "RUNBOOK_RUNS_DIR"  # a dry run of a person, who may not look
    except OSError as error:
        raise RunbookError(
            f"environment_file: {environment_file} cannot be read ({error.strerror}), and units do not start without "
            "it; make it (docs/howto/schedules.md), or name another one."
        ) from None
    owner = runs.stat().st_uid if runs.is_dir() else None
    if "RUNBOOK_RUNS_DIR" not in said and owner != found.pw_uid:
        what = "is not there" if owner is None else f"belongs to user {owner}"
        fix = f"sudo install -d -o {user} {runs}" if owner is None else f"sudo chown -R {user} {runs}"
        raise RunbookError(
            f"user: {runs} {what}, so that no run of {user} could keep a record, and each would be refused; {fix} "
            "makes it that user's."
        )
