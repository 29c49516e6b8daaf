"""Lock files of this machine, as they were read; ``rules/updates/packages.py`` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path

#: libyaml's is ten times as fast, and is not in every build.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: The largest lock files that are about have some 5 MB.
_MAX_BYTES = 64 << 20


def text(path: Path) -> str:
    """What a file says.

    :raises RunbookError: it is not there, cannot be read, or is no text
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RunbookError(f"files: {path} has more than {_MAX_BYTES >> 20} MiB, so it is no lock file; name one.")
        return path.read_text()
    except OSError as error:
        raise RunbookError(f"files: {path} cannot be read: {error.strerror}; name lock files that are there.") from None
    except UnicodeDecodeError:
        raise RunbookError(f"files: {path} is no text; name a lock file.") from None


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file.

    :raises RunbookError: as :func:`text` and :func:`parse`
    """
    return parse(text(path), str(path))


def parse(said: str | bytes, path: str) -> list[Any]:
    """The documents of YAML that was read.

    :param path: of its file, for a sentence
    :raises RunbookError: it is none, as after a merge with conflicts
    """
    try:
        return list(yaml.load_all(said, Loader=_LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" from line {mark.line + 1} on" if mark else ""
        raise RunbookError(
            f"files: {path} is no YAML{where}; solve what a merge left in it, or restore it from git."
        ) from None
