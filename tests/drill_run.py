"""A drill step by step, each module called as the playbook calls it."""

from __future__ import annotations

import os
import runpy
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, Progress
from conftest import ROOT, S3, Outcome, permit, run_module, this_run

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "canary-password-7f3a"
DATABASE = "mental_scribe"
#: Each is a module, ``dr_drill_<act>``.
ACTS = ("begin", "outage", "decide", "verify", "skip", "tear_down", "judge")


def names_of(act: str) -> dict[str, Any]:
    """The names of an act's module, to be looked at or replaced."""
    found: dict[str, Any] = runpy.run_path(str(ROOT / "library" / f"dr_drill_{act}.py"))["core"].__globals__
    return found


@cache
def options_of(act: str) -> dict[str, dict[str, Any]]:
    """The argument spec of an act's module."""
    found: dict[str, dict[str, Any]] = names_of(act)["argument_spec"]()
    return found


@dataclass
class DrillRun:
    """One drill in a folder of a test; each act takes from ``options`` those that it has."""

    folder: Path
    s3: S3
    options: dict[str, Any] = field(default_factory=dict)
    #: What the last act said, and what all of them did so far.
    said: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)

    def given(self, act: str, **more: Any) -> dict[str, Any]:
        """Options of one act."""
        common = {
            "state_dir": str(self.folder / "drill"), "environment": "sandbox", "host": "db",
            "server": "db", "prefix": "logical", "login_host": "127.0.0.1", "login_user": "postgres",
            "login_password": PASSWORD, "login_db": DATABASE, "scale": 0.02, "write_s": 0, "clients": 2,
            "bindir": os.environ.get("PG_BINDIR"), **self.s3.options("unused"),
        } | self.options  # fmt: skip
        return {name: value for name, value in common.items() if name in options_of(act)} | more

    def hear(self, said: dict[str, Any]) -> None:
        """Keep what an act said."""
        self.said = said
        self.known |= said

    def act(self, act: str, *, check: bool = False, **more: Any) -> Outcome:
        """One act."""
        outcome = run_module(f"dr_drill_{act}", self.given(act, **more), check=check)
        self.hear(outcome.result)
        return outcome

    def inside(self, modules: dict[str, dict[str, Any]], act: str, **more: Any) -> dict[str, Any]:
        """The same in this process, so that a test can put something else into ``modules``, the names of each act.

        :raises RunbookError: as the module fails
        """
        params, spec = self.given(act, **more), options_of(act)
        for name, each in spec.items():
            inner = {part: one.get("default") for part, one in each.get("options", {}).items()}
            params[name] = inner | params[name] if inner and name in params else params.get(name, each.get("default"))
        permit(this_run(), params, take_lease=False)
        context = Context(
            params, check_mode=False, diff=False, run=this_run(),
            progress=Progress(f"dr_drill_{act}", {}), warn=print, hide=print,
        )  # fmt: skip
        try:
            self.hear(modules[act]["core"](context))
        except RunbookError as error:
            self.hear({"msg": error.message} | error.context)
            raise
        return self.said

    def step(self, act: str, **more: Any) -> dict[str, Any]:
        """One act that has to succeed."""
        outcome = self.act(act, **more)
        assert not outcome.failed, outcome.result["msg"]
        return outcome.result

    def login(self, **more: Any) -> dict[str, Any]:
        """Options of a module that works on the drill's server."""
        return {
            "login_host": "127.0.0.1", "login_port": self.known["login_port"], "login_user": "postgres",
            "login_password": PASSWORD, "login_db": DATABASE, **self.s3.options(self.known["bucket"]),
        } | more  # fmt: skip

    def pitr(self, action: str, **more: Any) -> Outcome:
        """One of the modules pg_pitr_* on it."""
        return run_module(f"pg_pitr_{action}", self.pitr_options(action) | more)

    def pitr_options(self, action: str) -> dict[str, Any]:
        """Options of that module."""
        login = self.login(environment="sandbox", server="db")
        if action == "restore":
            # It asks the server that it makes, and no other.
            del login["login_host"], login["login_port"]
        own: dict[str, dict[str, Any]] = {
            "setup": {"state_dir": str(self.folder / "drill" / "keys")},
            "restore": {"bindir": os.environ.get("PG_BINDIR")},
        }
        return login | own.get(action, {})

    def prepare(self) -> None:
        """Begin, and make the backups that it asks for."""
        self.step("begin")
        self.back_up()

    def back_up(self) -> None:
        """Make the backups that the drill asks for."""
        for number in range(self.said["backups"]):
            if "pitr" in self.said["ways"]:
                for action in ("setup", "backup") if number == 0 else ("backup",):
                    done = self.pitr(action)
                    assert not done.failed, done.result["msg"]
            if "dump" in self.said["ways"]:
                given = self.login(environment="sandbox", prefix="logical", server_side_encryption="none")
                dumped = run_module("pg_backup", given)
                assert not dumped.failed, dumped.result["msg"]

    def restore(self) -> Outcome:
        """What the playbook restores between decide and verify."""
        said = self.said
        if said["restore_way"] == "pitr":
            return self.pitr(
                "restore", restore_path=said["restore_path"], backup_id=said["backup_id"],
                target_time=said["target_time"] or None,
            )  # fmt: skip
        given = self.login(
            login_db="postgres", database=DATABASE, prefix="logical", backup=said["backup_id"],
            target_database=said["target_database"], source_cluster=said["system_identifier"],
        )  # fmt: skip
        return run_module("pg_restore", given)

    def recover(self) -> None:
        """Attempts until one is good, or no backup is left."""
        while not self.act("decide").failed:
            restored = self.restore()
            if restored.failed:
                self.step("skip", reason=restored.result["msg"], code=restored.result.get("code", ""))
            else:
                self.step("verify")
            if self.said["recovered"]:
                return

    def judge(self) -> dict[str, Any]:
        """Tear down and judge; the document."""
        self.step("tear_down")
        document: dict[str, Any] = self.act("judge").result["drill"]
        return document

    def whole(self) -> dict[str, Any]:
        """The whole drill; its document."""
        self.prepare()
        self.step("outage")
        self.recover()
        return self.judge()
