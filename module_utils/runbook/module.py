"""The bridge to Ansible: the only code that touches ``AnsibleModule``.

A module of this project is one function that takes a :class:`Context` and returns its result, or raises
:class:`~ansible.module_utils.runbook.errors.RunbookError`. :func:`run_module` does the rest: options, check mode,
errors, signals, progress.

The callback ``run_record`` hands some facts about the run to its modules, through the environment, since a module
that runs on the bastion inherits it:

``RUNBOOK_RUN_ID``
    Names the run; the lease is held in this name.
``RUNBOOK_RUN_DIR``
    Folder of the run's record. Unset: no record is being written.
``RUNBOOK_JOURNAL_ERROR``
    Why the record can no longer be written, in one sentence: nothing is written to a target from then on.
``RUNBOOK_CONTROLLER``
    ``<host>/<pid>`` of the ``ansible-playbook`` process, for people.
``RUNBOOK_PROCESS``
    The same process, named so that no other is taken for it (``drivers/process.py``).
``RUNBOOK_PROGRESS_FILE``
    Where modules append their progress, one JSON object a line.

``RUNBOOK_HOST`` comes from the play's ``environment``: a module does not know for which inventory host it works. No
other one may (``rules.run.forged``).
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.drivers import permits, process, stopping
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import failure, text
from ansible.module_utils.runbook.rules.bounds import require
from ansible.module_utils.runbook.rules.run import LAST_WORDS, PERMITS, Run
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from ansible.module_utils.runbook.rules.status import Check

#: Seconds between two progress events of one module; the display refreshes four times a second.
PROGRESS_INTERVAL_S = 0.2
#: Code of the error that a signal becomes.
STOPPED = "stopped"


class Progress:
    """Reports the module's progress to the terminal display.

    Each event is one ``write()`` to a file opened with ``O_APPEND``, so that the modules of several hosts share one
    file. Without ``RUNBOOK_PROGRESS_FILE`` nothing is written. A full disk never stops the work that is reported on.
    """

    def __init__(self, module: str, environ: Mapping[str, str] = os.environ) -> None:
        self._path = environ.get("RUNBOOK_PROGRESS_FILE")
        self._base = {"host": environ.get("RUNBOOK_HOST", ""), "module": module, "pid": os.getpid()}
        self._started = time.monotonic()
        self._last = 0.0

    def update(self, label: str, done: float, total: float | None, unit: str, *, final: bool = False) -> None:
        """Report that ``done`` of ``total`` are done, both in ``unit``.

        :param label: what is being done, in a few words; no row content
        :param total: None where it is not known
        :param unit: ``rows``, ``tables``, ``bytes`` …
        :param final: this step is over; such an event is never dropped
        """
        now = time.monotonic()
        if self._path is None or (not final and now - self._last < PROGRESS_INTERVAL_S):
            return
        self._last = now
        elapsed = now - self._started
        event = self._base | {
            "ts": round(time.time(), 3),
            "label": text.visible(label),
            "done": done,
            "total": total,
            "unit": unit,
            "rate": round(done / elapsed, 3) if elapsed > 0 else None,
            "final": final,
        }
        line = (json.dumps(event) + "\n").encode()
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError:
            self._path = None


@dataclass
class Context:
    """What a module's core may use of Ansible."""

    params: dict[str, Any]
    check_mode: bool
    diff: bool
    run: Run
    progress: Progress
    #: ``warn(text)`` shows a warning under the task.
    warn: Callable[[str], None]
    #: ``hide(secret)`` keeps a value that was derived from a secret option out of everything that is printed.
    hide: Callable[[str], None]

    def require_bounds(self, bounds: Mapping[str, tuple[int, int]]) -> None:
        """Refuse the first option that is set and does not lie between its two bounds, which are allowed.

        :raises RunbookError: names the option, the value and the bounds
        """
        require(self.params, bounds)

    def conclude(
        self,
        judged: Status | Sequence[Check],
        *,
        msg: str,
        fail_on_breach: bool = True,
        fail_on_unknown: bool = True,
        **facts: Any,
    ) -> dict[str, Any]:
        """Build the result of a module that judges something; fail the task unless everything is ok.

        :param judged: the checks, which become part of the result; or the status, where there are figures instead
        :param msg: one sentence with the figures, or what is not ok and the fix
        :param fail_on_breach: False where the module only looks: the playbook goes on, and its record is not green
        :param fail_on_unknown: False there too, and where the work is done and something beside it is unknown
        :param facts: the rest of the result; ``changed`` is False unless it is among them
        :raises RunbookError: with the whole result as its context
        """
        status = judged if isinstance(judged, Status) else worst(check.status for check in judged)
        facts = {"changed": False} | facts | {"status": status}
        if not isinstance(judged, Status):
            facts["checks"] = [check.result() for check in judged]
        if (status is Status.BREACH and fail_on_breach) or (status is Status.UNKNOWN and fail_on_unknown):
            raise RunbookError(msg, **facts)
        return facts | {"msg": msg}


def _raise_on_signal(signum: int, _frame: FrameType | None) -> NoReturn:
    # A second signal would interrupt the rollback.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    stopping.told.set()
    # Ansible sends SIGINT to its modules whether it was itself ended by Ctrl-C or by SIGTERM.
    by = "with its run" if signum == signal.SIGINT else f"by {signal.Signals(signum).name}"
    raise RunbookError(f"Stopped {by}; run the same command again.", code=STOPPED)


def _join(run: Run) -> int | None:
    """Hold a lock in the run's folder while this module works: the callback waits for it before it reports the end."""
    if run.directory is None:
        return None
    try:
        handle = os.open(Path(run.directory) / PERMITS, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:  # no such file, or a file system without locks
        return None
    return handle


def _leave_last_words(run: Run, name: str, message: str, code: str = "") -> None:
    """Record the outcome of work that was stopped: Ansible no longer reads the result of its module."""
    if run.directory is None or not stopping.told.is_set():
        return
    if code != STOPPED:
        # The stop came as another error was on its way, or the work was done already.
        message = f"Stopped. {message}"
    line = json.dumps({"host": run.host, "module": name, "msg": message}).encode() + b"\n"
    with suppress(OSError):
        handle = os.open(Path(run.directory) / LAST_WORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(handle, line)
        os.close(handle)


def _bound(params: dict[str, Any], end: datetime | None) -> str:
    """Let ``deadline_s`` not outlast the run's maintenance window, whatever it says.

    :return: what to say of it where the module does not come to its end; empty where nothing was shortened
    """
    asked = params.get("deadline_s")
    if end is None or asked is None:
        return ""
    left_s = int((end - datetime.now(UTC)).total_seconds())
    if left_s >= asked:
        return ""
    # What is over already is refused where the module asks for its permit.
    params["deadline_s"] = max(left_s, 1)
    return (
        f"The run's maintenance window ends at {to_second(end.isoformat())}, which left {params['deadline_s']} s of "
        f"the {asked} s of deadline_s; what is finished stays, run the same command again in the next window."
    )


def _with_window(message: str, bounded: str, *, late: bool) -> str:
    """A failure's sentence, where the window may be its reason: more time, which it may ask for, cannot be given.

    :param late: much of the time was used up when it failed
    """
    if not bounded or not (late or "deadline" in message):
        return message
    if message.startswith("deadline_s:"):
        return bounded
    return f"{bounded} {message}" if "deadline_s" in message else f"{message} {bounded}"


class _Module(AnsibleModule):
    """Ansible does not know that the value of a misspelt option may be a secret, so where one is no value is shown."""

    _options_are_known = False

    def __init__(self, **spec: Any) -> None:
        super().__init__(**spec)
        self._options_are_known = True

    def fail_json(self, msg: str, **said: Any) -> NoReturn:
        """End in red."""
        super().fail_json(msg=msg, **({} if self._options_are_known else {"invocation": {}}) | said)


def run_module(
    core: Callable[[Context], dict[str, Any]],
    *,
    name: str,
    argument_spec: dict[str, Any],
    needs_record: bool = True,
    **spec: Any,
) -> None:
    """Run ``core`` as an Ansible module named ``name``; print its result and exit.

    ``needs_record`` is False for what must work even if the run's record can no longer be written: releasing a lease.
    ``spec`` goes to ``AnsibleModule`` as it is. Check mode is supported unless it says otherwise. SIGTERM and SIGINT
    become a :class:`RunbookError`, so that transactions are rolled back and connections closed on the way out.
    """
    module = _Module(argument_spec=argument_spec, **({"supports_check_mode": True} | spec))
    context = _context(module, name)
    _listen_for_the_end(context.run)
    # Held until this process ends.
    _joined = _join(context.run)
    bounded, began = "", time.monotonic()
    try:
        bounded = _bound(module.params, permits.ends_at(context.run))
        _require_record(needs_record and not module.check_mode)
        _refuse_values(module, context.hide)
        # A module that judges nothing and returns has done its work.
        result = {"status": str(Status.OK)} | core(context)
    except RunbookError as error:
        late = bool(bounded) and time.monotonic() - began > module.params["deadline_s"] / 2
        message = _with_window(error.message, bounded, late=late)
        _leave_last_words(context.run, name, message, error.code)
        said = {"changed": False} | error.context | {"status": error.status, "msg": message}
        module.fail_json(**text.outgoing(said))
    except Exception as error:
        message = failure.sentence(name, error)
        _leave_last_words(context.run, name, message)
        module.fail_json(**text.outgoing({"status": str(Status.UNKNOWN), "msg": message}))
    _leave_last_words(context.run, name, str(result.get("msg", "")))
    module.exit_json(**text.outgoing(result))


def _context(module: AnsibleModule, name: str) -> Context:
    """What the core gets of Ansible."""

    def hide(secret: str) -> None:
        if secret:
            module.no_log_values.add(secret)

    return Context(
        params=module.params,
        check_mode=module.check_mode,
        diff=module._diff,  # noqa: SLF001 - AnsibleModule offers the flag under no public name
        run=replace(Run.from_environ(os.environ), check_mode=module.check_mode),
        progress=Progress(name),
        warn=lambda said: module.warn(text.visible(said)),
        hide=hide,
    )


def _listen_for_the_end(run: Run) -> None:
    """Stop this module by a signal, and where the ansible-playbook that started it is gone."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_on_signal)
    stopping.watch(process.parse(run.process or ""))


def _require_record(needed: bool) -> None:
    """Refuse to write what the run's record could not tell of."""
    lost = os.environ.get("RUNBOOK_JOURNAL_ERROR")
    if lost and needed:
        raise RunbookError(f"The run's record cannot be written, so nothing else is: {lost}")


def _refuse_values(module: AnsibleModule, hide: Callable[[str], None]) -> None:
    """Refuse passwords in addresses, NUL, and bytes that are no UTF-8, and keep them out of all output."""
    refused = text.refusal(module.params, secret=_secret(module.argument_spec))
    if refused is not None:
        value, sentence = refused
        hide(value)
        raise RunbookError(sentence)


def _secret(spec: Mapping[str, Any]) -> set[str]:
    """Names of the options, at any depth, that Ansible keeps out of all output."""
    found = {name for name, option in spec.items() if option.get("no_log")}
    return found.union(*(_secret(option.get("options") or {}) for option in spec.values()))
