"""A process that outlives ansible-playbook, so that a run which is killed still ends in order.

It is forked before the run begins anything, and waits on a pipe. The run tells it what it holds: its leases, and the
folder of its record. At its end the run asks it to give these back. Where ansible-playbook dies without a word, the
process does the same by itself.

Neither Ctrl-C nor a signal to the group of ansible-playbook reaches it. And it can begin threads and processes when
ansible-playbook no longer can: from Python 3.12 on not while the interpreter ends, where Ansible is after Ctrl-C.

A worker of Ansible's tells it of what a module is about to open, before it does: ansible-playbook itself hears of that
only when the module is through, and may be killed meanwhile.

What it holds for the run is in memory and in the pipe alone: logins are among it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import NoReturn

#: Seconds that an answer may take: a lease given back by each of two stores that crawl.
ANSWER_S = 120.0
#: Seconds that it may take to read an order or to end, and a worker to tell it something; longer, and it is stuck.
PATIENCE_S = 5.0
#: Seconds between two looks at ansible-playbook.
_LOOK_S = 1.0
#: Where workers find the way to the process of their run.
_TOLD = "RUNBOOK_WATCHDOG"
#: A message is never longer.
_MOST_BYTES = 1 << 20


class Watchdog:
    """The process, as ansible-playbook has it.

    :param answer: does what :meth:`ask` asks for; called in the other process, also with what workers told
    :param bury: ends the run in order after ansible-playbook died; called in the other process with what
        :meth:`know` and :meth:`hold` told last, and with what workers told
    :raises OSError: no process can be begun
    """

    def __init__(
        self,
        answer: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Any],
        bury: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
    ) -> None:
        self._broken = False
        controller = process.own()
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        heard, self._told = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._orders)
            os.close(self._answers)
            self._told.close()
            _serve(_Orders(orders, heard, controller), answers, answer, bury)
        os.close(orders)
        os.close(answers)
        heard.close()
        os.environ[_TOLD] = str(self._told.fileno())

    def know(self, facts: Mapping[str, Any], forget: Sequence[str] = ()) -> None:
        """Have it know something of the run from now on; of each key the last word counts.

        :param forget: keys of what workers told and is over
        """
        self._send({"know": facts, "forget": list(forget)})

    def hold(self, kind: str, name: str, what: Any) -> None:
        """Have it know one thing that the run holds, of which there may be one for each host; None is given back."""
        self._send({"hold": kind, "name": name, "what": what})

    def ask(self, what: str, facts: Mapping[str, Any], services: int = 1) -> Any:
        """Have it do something, and wait for the answer; None where it does not come in time.

        :param services: how many it has to talk to, each of which may take :data:`ANSWER_S`
        """
        self._send({"ask": what, "facts": facts})
        said, until = b"", time.monotonic() + ANSWER_S * services
        while not said.endswith(b"\n") and not self._broken:
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([self._answers], [], [], left_s)[0]:
                self._broken = True
            else:
                piece = os.read(self._answers, 1 << 16)
                said, self._broken = said + piece, not piece
        return None if self._broken else json.loads(said)

    def dismiss(self) -> None:
        """End it: the run ended in order. One that does not end by itself within :data:`PATIENCE_S` is killed."""
        self._send({"over": True})
        os.environ.pop(_TOLD, None)
        self._told.close()
        for handle in (self._orders, self._answers):
            os.close(handle)
        with contextlib.suppress(OSError):
            until = time.monotonic() + (0 if self._broken else PATIENCE_S)
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() >= until:
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
                    break
                time.sleep(0.01)

    def _send(self, order: Mapping[str, Any]) -> None:
        data = json.dumps(order, default=str).encode() + b"\n"
        try:
            while data and not self._broken:
                if select.select([], [self._orders], [], PATIENCE_S)[1]:
                    # What a pipe that is ready takes for sure.
                    data = data[os.write(self._orders, data[: select.PIPE_BUF]) :]
                else:
                    self._broken = True
        except OSError:  # it is gone; SIGPIPE is ignored by Python
            self._broken = True


def tell(key: str, value: Any) -> None:
    """Tell the process of this run something, from a worker of its ansible-playbook; nothing where there is none."""
    handle = os.environ.get(_TOLD)
    if handle:
        data = json.dumps({"key": key, "value": value}, default=str).encode()
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(handle))) as told:
            told.settimeout(PATIENCE_S)
            told.send(data)


class _Orders:
    """Lines out of a pipe, until it ends or the process that writes to it is gone.

    Both, because the workers and modules that ansible-playbook began have the pipe too, and may live longer.
    """

    def __init__(self, handle: int, heard: socket.socket, controller: process.Process | None) -> None:
        self._handle, self._heard, self._controller, self._read = handle, heard, controller, b""
        #: What workers told, by its key.
        self.told: dict[str, Any] = {}

    def __iter__(self) -> Iterator[bytes]:
        while True:
            line, found, rest = self._read.partition(b"\n")
            if found:
                self._read = rest
                # What a worker told before this line was written has come by now.
                self._listen()
                yield line
                continue
            ready = select.select([self._handle, self._heard.fileno()], [], [], _LOOK_S)[0]
            if self._handle in ready:
                piece = os.read(self._handle, 1 << 16)
                if not piece:
                    break
                self._read += piece
            elif ready:
                self._listen()
            elif self._controller is not None and self._controller.life() == "dead":
                break
        self._listen()

    def _listen(self) -> None:
        while select.select([self._heard], [], [], 0)[0]:
            said = json.loads(self._heard.recv(_MOST_BYTES))
            self.told[said["key"]] = said["value"]


def _serve(
    orders: _Orders,
    answers: int,
    answer: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Any],
    bury: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
) -> NoReturn:
    """Be the other process; it never returns into ansible-playbook."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Whoever waits for the end of the run's output does not wait for this process.
        nothing = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(nothing, handle)
        facts: dict[str, Any] = {}
        for line in orders:
            order = json.loads(line)
            if "over" in order:
                os._exit(0)
            elif "know" in order:
                facts |= order["know"]
                for key in order["forget"]:
                    orders.told.pop(key, None)
            elif "hold" in order:
                held = facts.setdefault(order["hold"], {})
                held[order["name"]] = order["what"]
                if order["what"] is None:
                    del held[order["name"]]
            else:
                found = answer(order["ask"], order["facts"], orders.told)
                said = json.dumps(found, default=str).encode() + b"\n"
                while said:
                    said = said[os.write(answers, said) :]
        if facts:
            bury(facts, orders.told)
        code = 0
    finally:
        os._exit(code)
