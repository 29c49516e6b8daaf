"""The drill that is under way: what each of its acts begins with, notes, and leaves for the next one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import barman
from ansible.module_utils.runbook.drivers.drill import buckets, servers
from ansible.module_utils.runbook.drivers.drill.folder import Folder, now
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres import postgres
    from ansible.module_utils.runbook.rules.drill.state import State
    from ansible.module_utils.runbook.rules.run import Run


# --- options ----------------------------------------------------------------------------------------------------------


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every act, as the fragment ``runbook_drill`` tells them."""
    return {"state_dir": {"type": "path", "required": True}, "environment": {"type": "str", "required": True}}


def own_login() -> dict[str, dict[str, Any]]:
    """Options of an act that asks servers which the drill made."""
    return {"login_user": {"type": "str"}, "login_password": {"type": "str", "no_log": True}}


def target() -> dict[str, dict[str, Any]]:
    """Options of an act that asks the server to which dumps are restored."""
    inner: dict[str, dict[str, Any]] = {
        "login_host": {"type": "str"},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str"},
        "login_password": {"type": "str", "no_log": True},
        "ssl_mode": {"type": "str", "default": "verify-full"},
        "ca_cert": {"type": "path"},
        "system_identifier": {"type": "str", "default": ""},
    }
    return {"target": {"type": "dict", "default": {}, "options": inner}}


def backups() -> dict[str, dict[str, Any]]:
    """Options of an act that looks for the backups."""
    return {
        "prefix": {"type": "str", "default": ""},
        "pitr_prefix": {"type": "str", "default": "pitr"},
        "server": {"type": "str", "required": True},
        "engine_bindir": {"type": "path"},
    }


def another_bucket() -> dict[str, dict[str, Any]]:
    """Suboptions that name a bucket beside the one of the backups."""
    return {
        **{name: {"type": "str"} for name in ("bucket", "region", "endpoint_url", "profile")},
        "access_key": {"type": "str", "no_log": False},
        "secret_key": {"type": "str", "no_log": True},
        "session_token": {"type": "str", "no_log": True},
        "aws_ca_bundle": {"type": "path"},
    }


# --- one drill --------------------------------------------------------------------------------------------------------


@dataclass
class Drill:
    """One drill: its folder, and its state, which is written down with each change."""

    folder: Folder
    state: State
    _begun: float = field(default_factory=time.monotonic)

    def keep(self, state: State) -> None:
        """Write down what is new."""
        self.folder.write(state)
        self.state = state

    def phase(self, name: str, begun: datetime, status: Status = Status.OK, msg: str = "") -> None:
        """Note a phase that ends now."""
        self.keep(self.state.with_phase(name, begun, now(), status, msg))

    def told(self, msg: str, **facts: Any) -> dict[str, Any]:
        """The result of an act."""
        known = {"changed": True, "msg": msg, "drill_id": self.state.drill_id}
        return known | facts | {"duration_s": round(time.monotonic() - self._begun, 3)}


@contextmanager
def resumed(params: Mapping[str, Any]) -> Iterator[Drill]:
    """The drill that is under way, its folder held for the block.

    :param params: options of an act
    :raises RunbookError: none was started, or in another environment
    """
    folder = Folder.of(params)
    with folder.mine():
        state = folder.read()
        if state is None:
            raise RunbookError(f"state_dir: no drill was started in {folder.path}; run the playbook dr_drill.yml.")
        if state.environment != params["environment"]:
            raise RunbookError(
                f"environment: drill {state.drill_id} in {folder.path} is one of {state.environment}, not of "
                f"{params['environment']}; name its own."
            )
        try:
            yield Drill(folder, state)
        except RunbookError as error:
            # The playbook sees by it that there is something to tear down.
            error.context["drill_id"] = state.drill_id
            raise


def engine(
    drill: Drill, params: Mapping[str, Any], *, prefix: str, server: str, heard: Callable[[str, str], None]
) -> barman.Engine:
    """Barman's archive in the bucket that is used now.

    :param params: options of an act, with those of the bucket
    """
    given = buckets.place(drill.state, params)
    return barman.Engine(
        programs=barman.programs_folder(params["engine_bindir"]), store=s3.Store.from_params(given), prefix=prefix,
        server=server, state=drill.folder.path / "keys", params=given, heard=heard,
    )  # fmt: skip


def permit(run: Run, state: State, session: postgres.Session) -> None:
    """A server that the drill made, or that proved to be its target, may be written to by the rest of this run."""
    permits.grant(run, Target("database", servers.identity(session), state.database))


def remove(folder: Folder, state: State, params: Mapping[str, Any]) -> str:
    """End processes, remove servers, databases and buckets of a drill; what there was.

    :param params: options of the bucket, and ``target``
    :raises RunbookError: something could not be removed
    """
    found = folder.clear(Path(state.restore_path))
    found += [f"bucket {name}" for name in buckets.names(state) if buckets.remove(buckets.own(params, name))]
    there = state.destination
    if not state.is_sandbox and there and servers.drop_database(servers.destination(state, params), there.database):
        found.append(f"database {there.database}")
    return ", ".join(found) or "nothing"
