"""Maintenance mode of an application, wherever its flag lies.

Each flag is the moment until which the mode is on, which is the same for everybody who needs it: a change notes until
when it needs the mode, and the flag follows the notes of all open changes (:func:`settle`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import psycopg2
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.change.changes import Done
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, Repeat
from ansible.module_utils.runbook.drivers.http.webhook import Webhook
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.maintenance_mode import Flags
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import to_second
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.run import Run

VERCEL_URL = "https://api.vercel.com"
#: How often a flag is written again because another change noted something meanwhile.
_ATTEMPTS = 5


class Mode(Protocol):
    """A flag that is on until a moment."""

    @property
    def where(self) -> str:
        """Which flag, without a secret; the same for everybody who means the same one."""

    def stands(self, until: datetime | None) -> bool:
        """Whether it is on until then and no longer; None: whether it is off. False where nobody can read it.

        :raises RunbookError: it cannot be asked
        """

    def write(self, until: datetime | None) -> None:
        """Let it be on until then; None: off.

        :raises RunbookError: it cannot be written, or nobody knows whether it was
        """


def settle(mode: Mode, wanted: Callable[[], datetime | None], *, check_mode: bool = False) -> bool:
    """Write the flag until it is what the notes of the open changes say; whether it was written.

    The notes are read once more after each write: a change that noted something after they were read writes after us,
    and one that did before is seen.

    :param wanted: until when the mode has to be on by the notes, None if nobody needs it
    :raises RunbookError: the flag cannot be read or written, or the notes change all the time
    """
    written: list[datetime | None] = []
    for _ in range(_ATTEMPTS):
        until = wanted()
        if written[-1:] == [until] or (not written and mode.stands(until)):
            return bool(written)
        if check_mode:
            return True
        mode.write(until)
        written.append(until)
    raise RunbookError(f"{mode.where}: other changes turn it on and off all the time; run this again.")


def follow(mode: Mode, wanted: Callable[[], datetime | None], *, check_mode: bool = False) -> Done:
    """:func:`settle`, in a sentence. It closes the mode of a change too, whose note is left out of ``wanted``.

    :raises RunbookError: as :func:`settle`
    """
    changed = settle(mode, wanted, check_mode=check_mode)
    until = wanted()
    how = f"on until {to_second(until.isoformat())}" if until else "off"
    said = f"{'Would turn' if check_mode else 'Turned'} maintenance mode {how}." if changed else (
        f"Maintenance mode is {how} already."
    )  # fmt: skip
    return Done(said, facts={"changed": changed, "until": until.isoformat() if until else None})


class FlagFolder:
    """Files by whose names nginx knows until when (:class:`Flags`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = str(folder)

    def stands(self, until: datetime | None) -> bool:
        """As :class:`Mode` says."""
        now = int(time.time())
        flags = Flags(frozenset(self._names()))
        return flags.end(now) is None if until is None else flags.hold(now, int(until.timestamp()))

    def write(self, until: datetime | None) -> None:
        """As :class:`Mode` says. Whatever a kill leaves of it ends by itself too."""
        wanted = Flags.lasting(int(time.time()), int(until.timestamp())).names if until else frozenset()
        found = self._names()
        try:
            for name in sorted(wanted - found):
                os.close(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            for name in found - wanted:
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._explained(error) from None

    def _names(self) -> set[str]:
        try:
            return {path.name for path in self._folder.iterdir() if path.name.isascii() and path.name.isdigit()}
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: OSError) -> RunbookError:
        return RunbookError(
            f"nginx_flag_dir: {self._folder}: {error.strerror}; make the folder, let this user write to it and nginx "
            "enter it."
        )


class GlobalConfig:
    """An item of Vercel's Global Config, which the application's middleware reads: ``{"on": …, "until": …}``."""

    def __init__(self, api: ApiClient, *, path: str, config_id: str, item: str, team_id: str) -> None:
        self._api = api
        self._path, self._config_id, self._item = f"/v1/{path}", config_id, item
        self._query = (("teamId", team_id),) if team_id else ()
        self.where = f"{config_id}/{item}"

    def stands(self, until: datetime | None) -> bool:
        """As :class:`Mode` says."""
        try:
            found = self._api.get(f"{self._path}/{self._config_id}/item/{quote(self._item, safe='')}", self._query)
        except ApiError as error:
            if error.http_status != 404:
                raise
            self._require_config()
            return until is None
        value = found.get("value") if isinstance(found, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(value.get("on"), bool):
            return False
        if not value["on"]:
            return until is None
        try:
            end = datetime.fromisoformat(str(value.get("until"))).astimezone(UTC)
        except ValueError:
            return False
        return end == until if until else end <= datetime.now(UTC)

    def write(self, until: datetime | None) -> None:
        """As :class:`Mode` says."""
        value = {"on": until is not None, "until": until.isoformat() if until else None}
        body = {"items": [{"operation": "upsert", "key": self._item, "value": value}]}
        self._api.patch(f"{self._path}/{self._config_id}/items", body, self._query, repeat=Repeat.ALWAYS)

    def _require_config(self) -> None:
        """See that it is the item that is missing, not the whole.

        :raises RunbookError: no such config is to be found
        """
        found = self._api.get(self._path, self._query)
        known = [each.get("id") for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
        if self._config_id not in known:
            raise RunbookError(
                f"vercel_config_id: Vercel knows no {self._config_id} here; check it, vercel_team_id, and vercel_path."
            )


class FlagRow:
    """The one row of a table of the application's, which compares its column with the server's ``now()``."""

    def __init__(self, session: Session, table: QualifiedName, column: str) -> None:
        self._session = session
        self._table, self._column = postgres.table(table), sql.Identifier(column)
        self._name = f"{table}.{column}"
        self.where = f"{session.target} {self._name}"

    def stands(self, until: datetime | None) -> bool:
        """As :class:`Mode` says."""
        statement = sql.SQL(
            "SELECT coalesce({c} = %(until)s, false) AS is_so, coalesce({c} > now(), false) AS is_on,"
            " pg_typeof({c})::text AS type FROM {t} LIMIT 2"
        ).format(c=self._column, t=self._table)
        try:
            rows = self._session.query(statement, {"until": until})
        except psycopg2.Error as error:
            raise self._explained(error) from None
        if len(rows) != 1:
            raise RunbookError(self._rows("no row" if not rows else "more than one row"))
        if rows[0]["type"] != "timestamp with time zone":
            raise RunbookError(
                f"sql_column: {self._name} is of type {rows[0]['type']}; the flag is a timestamp with time zone."
            )
        return bool(rows[0]["is_so"] if until else not rows[0]["is_on"])

    def write(self, until: datetime | None) -> None:
        """As :class:`Mode` says."""
        statement = sql.SQL("UPDATE {} SET {} = coalesce(%s, now())").format(self._table, self._column)
        try:
            with self._session.transaction():
                touched = self._session.execute(statement, (until,))
                if touched != 1:
                    raise RunbookError(self._rows(f"{touched} rows that this user may change"))
        except psycopg2.Error as error:
            raise self._explained(error) from None

    def _rows(self, found: str) -> str:
        return f"sql_table: {self._name} has {found}, as far as {self._session.target.user!r} sees; it has to have one."

    def _explained(self, error: psycopg2.Error) -> RunbookError:
        said = ServerError.of(error)
        lost = self._session.connection.closed
        return RunbookError(
            f"sql_table: {self._name}: {said.reason}; the user needs SELECT and UPDATE on it.",
            **({"status": Status.UNKNOWN} if lost else {}),
        )


class Told:
    """Whoever is told by a webhook, and cannot be asked."""

    def __init__(self, hook: Webhook, key: str) -> None:
        self._hook = hook
        self._key = key
        self.where = hook.where

    def stands(self, until: datetime | None) -> bool:
        """As :class:`Mode` says."""
        del until
        return False

    def write(self, until: datetime | None) -> None:
        """As :class:`Mode` says."""
        said = {"event": "maintenance_mode", "on": until is not None, "until": until.isoformat() if until else None}
        # Told again later, it is to be done again: in between it may have been told otherwise.
        self._hook.send(f"{self._key}#mode-{time.time_ns()}", said)


def from_params(params: Mapping[str, Any], run: Run, key: str, table: QualifiedName | None, closing: ExitStack) -> Mode:
    """The flag that a module's options name, which are checked.

    :param key: the change's
    :param table: what ``sql_table`` says
    :param closing: closes a connection
    :raises RunbookError: no connection to the database, or it did not pass preflight
    """
    backend = params["backend"]
    if backend == "nginx":
        return FlagFolder(Path(params["nginx_flag_dir"]))
    if backend == "vercel":
        token = params["vercel_token"]
        api = ApiClient(
            service="Vercel",
            base_url=params["vercel_url"] or VERCEL_URL,
            headers={"Authorization": f"Bearer {token}"},
            secrets={"vercel_token": token},
            read_only=run.check_mode,
            timeout_s=params["timeout_s"],
            reset_headers=("x-ratelimit-reset",),
            fixes={
                401: "check vercel_token",
                403: "check the token's rights and vercel_team_id",
                404: "check vercel_config_id and vercel_team_id",
            },
            ca_cert=params["ca_cert"],
            options=("vercel_url", "ca_cert"),
        )
        return GlobalConfig(
            api,
            path=params["vercel_path"] or "global-config",
            config_id=params["vercel_config_id"],
            item=params["vercel_item"] or "maintenance",
            team_id=params["vercel_team_id"] or "",
        )
    if backend == "sql" and table is not None:
        session = closing.enter_context(
            postgres.Session(
                postgres.Target.from_params(params), lock_timeout_ms=5_000, statement_timeout_ms=10_000,
                purpose="maintenance_mode",
            )
        )  # fmt: skip
        permits.require_database(run, session, may_be_late=params["state"] == "off")
        return FlagRow(session, table, params["sql_column"] or "until")
    hook = Webhook(
        service="The webhook of the maintenance mode", url=params["webhook_url"], token=params["webhook_token"] or "",
        ca_cert=params["ca_cert"], timeout_s=params["timeout_s"], read_only=run.check_mode,
    )  # fmt: skip
    return Told(hook, key)
