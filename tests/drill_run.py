"""A drill step by step, each module called as the playbook calls it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conftest import S3, Outcome, run_module

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

    def act(self, action: str, *, check: bool = False, **more: Any) -> Outcome:
        """One action of dr_drill."""
        given = {
            "action": action, "state_dir": str(self.folder / "drill"), "environment": "sandbox", "host": "db",
            "server": "db", "prefix": "logical", "login_host": "127.0.0.1", "login_user": "postgres",
            "login_password": PASSWORD, "login_db": DATABASE, "scale": 0.02, "write_s": 0, "clients": 2,
            "bindir": os.environ.get("PG_BINDIR"), **self.s3.options("unused"),
        }  # fmt: skip
        outcome = run_module("dr_drill", given | self.options | more, check=check)
        self.said = outcome.result
        return outcome

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
            target_database=said["target_database"],
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
