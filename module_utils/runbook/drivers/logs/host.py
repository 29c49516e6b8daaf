"""The host that has the log files: this machine, or one that is reached by ssh."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.s3.stream import Output, Programs
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.logs.files import Found, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Nobody is asked for a password, an unknown host key is refused, and a host that is gone is given up after 45 s.
_SSH = (
    "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10", "-o",
    "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3",
)  # fmt: skip
#: Exit code of ssh itself.
_SSH_FAILED = 255
#: Seconds that an act may take that reads a whole file at most.
_ACT_S = 900


class Host:
    """Where the files are.

    :param ssh: destination as ssh(1) has it; empty for this machine
    :param become: there, everything is done as root, by ``sudo -n``
    """

    def __init__(self, ssh: str, *, become: bool) -> None:
        """Take the options.

        :raises RunbookError: the destination is none
        """
        if ssh.startswith("-") or any(sign.isspace() for sign in ssh):
            raise RunbookError(f"ssh: {ssh!r} is no destination; write it as user@host, or as a name of ~/.ssh/config.")
        self.name = ssh or "This machine"
        self._ssh, self._become = ssh, become

    def _words(self, asked: dict[str, Any]) -> list[str]:
        package = resources.files("ansible.module_utils.runbook.drivers.logs")
        text = package.joinpath("agent.py").read_text()
        python = "python3" if self._ssh or self._become else sys.executable
        words = [*(("sudo", "-n") if self._become else ()), python, "-I", "-c", text, json.dumps(asked)]
        return [*_SSH, "--", self._ssh, shlex.join(words)] if self._ssh else words

    def _explain(self, _program: str, code: int | None, said: str) -> str:
        last = (said.strip().splitlines() or [f"it ended with {code}"])[-1]
        return f"{self.name}: {last}."

    def _ask(self, timeout_s: float = _ACT_S, **asked: Any) -> Any:
        try:
            done = subprocess.run(self._words(asked), capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"{self.name} gave no answer within {timeout_s:.0f} s; look at it.") from None
        except FileNotFoundError as error:
            raise RunbookError(f"{error.filename} is not there; install it on this machine.") from None
        if done.returncode == _SSH_FAILED and self._ssh:
            raise UnreachableError(self._explain("ssh", done.returncode, done.stderr))
        if done.returncode != 0:
            raise RunbookError(self._explain("python3", done.returncode, done.stderr))
        return json.loads(done.stdout)

    def listing(self, patterns: Sequence[str]) -> list[Found]:
        """Files that the patterns match.

        :raises RunbookError: the host does not answer, or one may not be read
        """
        return [Found(**each) for each in self._ask(act="listing", patterns=list(patterns))]

    def cut(self, file: Found, start: int, most: int, *, whole: bool) -> int:
        """Where the next part of a file ends.

        :param whole: its last line is whole though it may lack its end, because nobody writes to it any more
        """
        asked = asdict(file) | {"start": start, "end": file.size_bytes, "most": most, "whole": whole}
        return int(self._ask(act="cut", **asked))

    def read(self, programs: Programs, file: Found, start: int, end: int) -> Output:
        """A part of a file as a stream.

        :raises RunbookError: while reading, that it is another file by now, or shorter
        """
        asked = asdict(file) | {"act": "read", "start": start, "end": end}
        return Output(programs, self._words(asked), explain=self._explain)

    def delete(self, file: Found, parts: Sequence[Part]) -> str:
        """Delete a file of which each byte was archived; why not, where it is not deleted."""
        return str(self._ask(act="delete", **asdict(file), parts=[asdict(part) for part in parts]))

    def rotate(self, *, config: str, state: str, text: str, force: bool, look: bool, timeout_s: int) -> dict[str, Any]:
        """Install logrotate's configuration and run it.

        :param look: only say what would be done
        :raises RunbookError: logrotate is not there, or refuses the configuration
        """
        answer: dict[str, Any] = self._ask(
            2 * timeout_s + 30, act="rotate", config=config, state=state, text=text, force=force, look=look,
            limit_s=timeout_s,
        )  # fmt: skip
        if "error" in answer:
            raise RunbookError(f"{self.name}: {str(answer['error']).rstrip('.')}.")
        return answer
