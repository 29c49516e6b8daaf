"""A drill step by step, each module called as the playbook calls it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, Progress
from conftest import S3, Outcome, permit, run_module, this_run

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "canary-password-7f3a"
DATABASE = "mental_scribe"


@dataclass
class DrillRun:
    """One drill in a folder of a test; ``options`` are those of every call of dr_drill."""

    folder: Path
    s3: S3
    options: dict[str, Any] = field(default_factory=dict)
    #: What the last action of dr_drill said.
    said: dict[str, Any] = field(default_factory=dict)

    def given(self, action: str, **more: Any) -> dict[str, Any]:
        """Options of one action of dr_drill."""
        return {
            "action": action, "state_dir": str(self.folder / "drill"), "environment": "sandbox", "host": "db",
            "server": "db", "prefix": "logical", "login_host": "127.0.0.1", "login_user": "postgres",
            "login_password": PASSWORD, "login_db": DATABASE, "scale": 0.02, "write_s": 0, "clients": 2,
            "bindir": os.environ.get("PG_BINDIR"), **self.s3.options("unused"),
        } | self.options | more  # fmt: skip

    def act(self, action: str, *, check: bool = False, **more: Any) -> Outcome:
        """One action of dr_drill."""
        outcome = run_module("dr_drill", self.given(action, **more), check=check)
        self.said = outcome.result
        return outcome

    def inside(self, module: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
        """The same in this process, so that a test can put something else into ``module``, the names of dr_drill.

        :raises RunbookError: as the module fails
        """
        params, spec = self.given(action, **more), module["argument_spec"]()
        for name, each in spec.items():
            inner = {part: one.get("default") for part, one in each.get("options", {}).items()}
            params[name] = inner | params[name] if inner and name in params else params.get(name, each.get("default"))
        permit(this_run(), params, take_lease=False)
        context = Context(
            params, check_mode=False, diff=False, run=this_run(),
            progress=Progress("dr_drill", {}), warn=print, hide=print,
        )  # fmt: skip
        try:
            self.said = module["core"](context)
        except RunbookError as error:
            self.said = {"msg": error.message} | error.context
            raise
        return self.said

    def step(self, action: str, **more: Any) -> dict[str, Any]:
        """The same; it has to succeed."""
        outcome = self.act(action, **more)
        assert not outcome.failed, outcome.result["msg"]
        return outcome.result

    def login(self, **more: Any) -> dict[str, Any]:
        """Options of a module that works on the drill's server."""
        said = self.said
        return {
            "login_host": said["login_host"], "login_port": said["login_port"], "login_user": "postgres",
            "login_password": PASSWORD, "login_db": DATABASE, **self.s3.options(said["bucket"]),
        } | more  # fmt: skip

    def pitr(self, action: str, **more: Any) -> Outcome:
        """One action of pg_pitr on it."""
        given = self.login(
            action=action, environment="sandbox", server="db", state_dir=str(self.folder / "drill" / "keys"),
            bindir=os.environ.get("PG_BINDIR"),
        )  # fmt: skip
        return run_module("pg_pitr", given | more)

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
            self.step("verify", failure=restored.result["msg"] if restored.failed else "")
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
