"""Setting a server up for recovery to a point in time: what must be so, and which settings change."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Names under which an archive may stand in the bucket: they become part of commands that PostgreSQL hands to a shell.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Server:
    """The server whose WAL is archived."""

    system_identifier: str
    in_recovery: bool
    data_directory: str
    segment_bytes: int
    #: File name of the segment that is being written; None on a standby.
    segment: str | None
    is_superuser: bool
    #: Folder of its own programs; empty where this user may not ask.
    bindir: str = ""

    @property
    def timeline(self) -> int | None:
        """Timeline in which it writes; None on a standby."""
        return int(self.segment[:8], 16) if self.segment else None


def require_primary(server: Server, *, user: str) -> None:
    """Refuse a server of which no base backup can be made by this user.

    :raises RunbookError: it is a standby, or the user is no superuser
    """
    if server.in_recovery:
        raise RunbookError("login_host: this server is a standby; name the primary.")
    if not server.is_superuser:
        raise RunbookError(f"login_user: {user!r} is no superuser; setup and backup need one.")


def require_here(server: Server, found: str | None) -> None:
    """Refuse a server whose files lie elsewhere.

    :param found: the system identifier of the data folder of that name on this machine; None where there is none
    :raises RunbookError: it is another cluster's
    """
    if found != server.system_identifier:
        raise RunbookError(
            f"login_host: the data folder {server.data_directory} of that server is not on this machine, where the "
            "engine must read it; run this task on the server's machine."
        )


def require_outside(state_dir: PurePath, data_directory: str) -> None:
    """Refuse a folder for keys that base backups would hold.

    :raises RunbookError: it lies in the data folder
    """
    data = PurePath(data_directory)
    if state_dir == data or data in state_dir.parents:
        raise RunbookError(
            f"state_dir: {state_dir} lies in the data folder {data}, and base backups would hold the keys; name a "
            "folder outside."
        )


@dataclass(frozen=True)
class Place:
    """Where an archive lies in its bucket."""

    prefix: str
    server: str

    @classmethod
    def named(cls, prefix: str, server: str) -> Place:
        """The place with these names, without slashes at the ends of the prefix.

        :raises RunbookError: one of them holds what may not stand in a command or in an address of S3
        """
        return cls(check_prefix(prefix), check_name(server, "server"))


def check_name(value: str, option: str) -> str:
    """A name that may stand in a command and in an address of S3.

    :raises RunbookError: it is empty or holds other characters
    """
    if not _PLAIN_NAME.fullmatch(value):
        raise RunbookError(
            f"{option}: {value!r} is no plain name; use letters, digits, dots, dashes and underscores, at most 63."
        )
    return value


def check_prefix(value: str) -> str:
    """A prefix in the bucket, without slashes at its ends.

    :raises RunbookError: a part of it is empty or holds other characters
    """
    for part in value.strip("/").split("/"):
        check_name(part, "prefix")
    return value.strip("/")


def shell_line(environ: Mapping[str, str], words: Sequence[str], *, placeholders: Sequence[str]) -> str:
    """A command for PostgreSQL's ``archive_command`` or ``restore_command``.

    Each word is quoted for the shell, and a percent sign in it doubled, so that PostgreSQL leaves it alone.

    :param placeholders: PostgreSQL's own, ``%p`` or ``%f``, put at the end as they are

    >>> shell_line({"A": "x y"}, ["/bin/tool", "100%"], placeholders=["%p"])
    "env A='x y' /bin/tool 100%% %p"
    """
    quoted = ["env", *(shlex.quote(f"{key}={value}").replace(f"'{key}=", f"{key}='") for key, value in environ.items())]
    quoted += [shlex.quote(word) for word in words]
    return " ".join(
        [word.replace("%", "%%") for word in quoted] + [f'"{each}"' if " " in each else each for each in placeholders]
    )


@dataclass(frozen=True)
class Setting:
    """A configuration parameter as the server has it."""

    #: What is in effect.
    value: str
    #: What ``ALTER SYSTEM`` wrote; None where it wrote nothing.
    written: str | None
    #: As ``pg_settings.source``.
    source: str


@dataclass(frozen=True)
class Change:
    """A configuration parameter that is to be set."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class SetupPlan:
    """What the setup does."""

    changes: tuple[Change, ...] = ()
    #: Parameters that take effect only when the server starts again.
    restart_for: tuple[str, ...] = field(default=())


def plan_setup(settings: Mapping[str, Setting], archive_command: str, archive_timeout_s: int) -> SetupPlan:
    """What must be set so that each segment is archived within ``archive_timeout_s``.

    :raises RunbookError: the server's command line, or ``archive_library``, would win over what is set here
    """
    wanted = {
        "archive_mode": "on" if settings["archive_mode"].value != "always" else "always",
        "wal_level": settings["wal_level"].value
        if settings["wal_level"].value in ("replica", "logical")
        else "replica",
        "archive_command": archive_command,
        "archive_timeout": str(archive_timeout_s),
    }
    if settings.get("archive_library", Setting("", None, "default")).value:
        raise RunbookError("archive_library is set, and would be used in place of archive_command; unset it first.")
    changes, restart = [], []
    for name, value in wanted.items():
        now = settings[name]
        # The server shows no command while archiving is off.
        effective = now.written if name == "archive_command" and now.value == "(disabled)" else now.value
        if effective == value:
            continue
        if now.source == "command line":
            raise RunbookError(
                f"{name}: the server was started with {name}={now.value} on its command line, which wins over "
                "ALTER SYSTEM; start it without."
            )
        if now.written != value:
            changes.append(Change(name, now.value, value))
        if name in ("archive_mode", "wal_level"):
            restart.append(name)
    return SetupPlan(tuple(changes), tuple(restart))
