"""One run, from its first event to its report. The callback tells it what Ansible does; it keeps the record."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import journal as journals
from ansible.module_utils.runbook.report.places import earlier_runs, git_commit, make_directory, slug
from ansible.module_utils.runbook.report.render import render_run
from ansible.module_utils.runbook.rules.record import figures, message, redact, secret_values
from ansible.module_utils.runbook.rules.run import HOST, LAST_WORDS, PERMITS, Batch, opening

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.job import Job

#: Puts a copy of a record elsewhere; why that could not be done, in one sentence, or None.
Copy = Callable[[dict[str, Any]], str | None]


@dataclass(frozen=True)
class LateStep:
    """A step that no task of a playbook made: it belongs to the end of the run."""

    host: str
    name: str
    module: str
    #: As the module returned it.
    result: Mapping[str, Any]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """As the journal tells of it."""
        task, failed = secrets.token_hex(8), bool(self.result.get("failed"))
        return [
            ("task_start", {"task": task, "play": "", "name": self.name, "role": None, "module": self.module}),
            ("host_start", {"task": task, "host": self.host}),
            (
                "result",
                {
                    "own": True, "task": task, "host": self.host, "state": "failed" if failed else "ok",
                    "ignored": False, "changed": bool(self.result.get("changed")),
                    "msg": message(self.result, own=True, failed=failed), "warnings": [],
                    "figures": figures(self.result, own=True),
                },
            ),
        ]  # fmt: skip


#: Ends what the report has to be there for; the steps of that.
Finish = Callable[[dict[str, Any]], Sequence[LateStep]]

_EXPORTED = (
    "RUNBOOK_RUN_ID",
    "RUNBOOK_RUN_DIR",
    "RUNBOOK_CONTROLLER",
    "RUNBOOK_PROCESS",
    HOST,
    "RUNBOOK_PROGRESS_FILE",
    "RUNBOOK_JOURNAL_ERROR",
)
#: How many earlier runs are looked at for one that was cut off.
_LOOK_BACK = 5
#: Seconds that modules have to roll back after Ctrl-C before the report is made without their last words.
_PATIENCE_S = 30.0
#: The same after a kill: a module first has to notice that nobody reads its result any more.
_PATIENCE_OF_THE_DEAD_S = 90.0
_STILL_AT_WORK = "A module was still at work when this report was made; it ends by itself."


def wait_for_modules(directory: Path, patience_s: float) -> bool:
    """Wait until no module of the run in ``directory`` is at work any more; False where that took too long.

    :param patience_s: longest wait, in seconds
    """
    try:
        handle = os.open(directory / PERMITS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            time.sleep(0.05)
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(handle)
    return False


def last_words(directory: Path) -> list[dict[str, Any]]:
    """What the modules of the run in ``directory`` said that were stopped: ``host``, ``module``, ``msg``."""
    try:
        lines = (directory / LAST_WORDS).read_text().splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def end_in_absence(
    directory: Path, notes: Callable[[], list[str]], steps: Callable[[], Sequence[LateStep]], finish: Finish
) -> dict[str, Any] | None:
    """Make the record and the reports of a run whose ansible-playbook was killed, by a process that outlived it.

    :param notes: gives back what the run held, once its modules are at rest, and says what could not be
    :param steps: before that, ends what the run opened
    :param finish: is called once the reports are there
    :return: the record; None where the run had made it before it died
    :raises OSError: the journal or a report cannot be written
    """
    at_rest = wait_for_modules(directory, _PATIENCE_OF_THE_DEAD_S)
    ended = steps()
    said = notes()
    if (directory / "record.json").exists():
        return None
    with (directory / journals.FILE_NAME).open("ab") as file:
        file.write(b"\n")  # the last line may be torn
    journal = journals.Journal(directory / journals.FILE_NAME, time.time)
    try:
        journal.append("note", text="ansible-playbook was killed, and a process that outlived it made this report.")
        for words in last_words(directory):
            journal.append("last_words", **words)
        for text in [*said, *([] if at_rest else [_STILL_AT_WORK])]:
            journal.append("note", text=text)
        for step in ended:
            for event, fields in step.events():
                journal.append(event, **fields)
        journal.append("run_stopped", sync=True, text="ansible-playbook was killed before its end")
        record = render_run(directory, publish=True)
        late = finish(record)
        for step in late:
            for event, fields in step.events():
                journal.append(event, **fields)
        return render_run(directory, publish=True) if late else record
    finally:
        for name in (PERMITS, LAST_WORDS):
            (directory / name).unlink(missing_ok=True)
        journal.close()


class Recorder:
    """Writes the journal of one run, exports its name to the modules, and makes its record at the end."""

    def __init__(self, runs_dir: Path, project: Path) -> None:
        self._runs_dir = runs_dir
        self._project = project
        self._pid = os.getpid()
        self._journal: journals.Journal | None = None
        #: Why there is no journal (any more): one sentence; None while all is well.
        self.error: str | None = None
        self.directory: Path | None = None
        self.playbook = ""

    def begin(
        self,
        playbook: str,
        progress_file: Path | None,
        facts: Mapping[str, Any],
        *,
        process: str = "",
        said: Mapping[str, str] | None = None,
        job: Job | None = None,
    ) -> None:
        """Open the journal and announce the run in the environment that modules inherit.

        :param process: this process, as ``drivers/process.py`` names it
        :param said: the variables that the command line set, as ``rules.run.command_line`` gives them
        :param job: the job of AWX or of CI that the run is
        """
        started = time.time()
        self.playbook = slug(playbook)
        stamp = datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")
        run_id = f"{stamp}-{self.playbook}-{secrets.token_hex(3)}"
        place = socket.gethostname() if job is None else f"{job.name} of {job.user}" if job.user else job.name
        controller = f"{place}/{self._pid}"
        for name in _EXPORTED:
            os.environ.pop(name, None)
        os.environ["RUNBOOK_RUN_ID"] = run_id
        os.environ["RUNBOOK_CONTROLLER"] = controller
        os.environ["RUNBOOK_PROCESS"] = process
        if progress_file is not None:
            os.environ["RUNBOOK_PROGRESS_FILE"] = str(progress_file)
        try:
            cut_off = self._cut_off_runs()
            self.directory = make_directory(self._runs_dir, f"{stamp}-{self.playbook}")
            self._journal = journals.Journal(self.directory / journals.FILE_NAME, time.time)
            self._journal.append(
                "run_start",
                at_s=started,
                sync=True,
                run_id=run_id,
                playbook=self.playbook,
                controller=controller,
                job=job.name if job else None,
                schedule=(said or {}).get("preflight_job") or None,
                commit=git_commit(self._project) or (job.commit if job else None),
                **facts,
            )
            # Permits are appended, and a lock on it tells which modules are at work.
            permits = self.directory / PERMITS
            permits.touch(0o600)
            permits.write_text(
                opening(run_id, said or {}, self._own(playbook), facts.get("tags") or (), facts.get("skip_tags") or ())
            )
        except OSError as error:
            self._lose_journal(error)
            return
        os.environ["RUNBOOK_RUN_DIR"] = str(self.directory)
        for path in cut_off:
            self.append(
                "note",
                text=f"The earlier run {path.name} was cut off and has no report; tools/render_record.py makes one from"
                " its journal.",
            )

    def _own(self, playbook: str) -> str:
        """The playbook without its suffix; empty where it is none of this project, whatever it is called."""
        path = Path(playbook).resolve()
        return slug(path.name) if path.parent == self._project / "playbooks" else ""

    def _cut_off_runs(self) -> list[Path]:
        return [
            path
            for path in earlier_runs(self._runs_dir, self.playbook)[:_LOOK_BACK]
            if not (path / "record.json").exists()
            and (path / journals.FILE_NAME).exists()
            and not journals.is_alive(path / journals.FILE_NAME)
        ]

    def _lose_journal(self, error: OSError) -> None:
        where = self.directory or self._runs_dir
        self.error = (
            f"The run's journal cannot be written in {where} ({error.strerror or error}); without it nothing may be "
            "changed. Make room or give the right to write there, or name another folder in RUNBOOK_RUNS_DIR."
        )
        os.environ.pop("RUNBOOK_RUN_DIR", None)
        os.environ["RUNBOOK_JOURNAL_ERROR"] = self.error
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def hide(self, options: object) -> None:
        """Blot out, from now on, the values of ``options`` that are named like secrets."""
        if self._journal is not None:
            self._journal.secrets |= secret_values(options)

    def shown(self, text: str) -> str:
        """A text without the secrets that are known by now."""
        return str(redact(text, self._journal.secrets if self._journal is not None else frozenset()))

    def append(self, event: str, **fields: Any) -> None:
        """Write an event; a journal that fails is given up, and :attr:`error` says so."""
        journal = self._journal
        if journal is None or os.getpid() != self._pid:
            return
        try:
            journal.append(event, **fields)
        except OSError as error:
            self._lose_journal(error)

    def begin_batch(self, batch: Batch) -> None:
        """Tell the modules to come which hosts the run works on, and whether it does; without that nothing is written.

        :param batch: as :func:`permits.batch` gives it to them
        """
        if self._journal is None or self.directory is None:
            return
        line = json.dumps({"run_id": os.environ["RUNBOOK_RUN_ID"], "batch": asdict(batch)})
        try:
            with (self.directory / PERMITS).open("a") as file:
                file.write(f"{line}\n")
        except OSError as error:
            self._lose_journal(error)

    def step(self, step: LateStep) -> None:
        """Write a step of the run's end."""
        for event, fields in step.events():
            self.append(event, **fields)

    def end(
        self, stats: Mapping[str, Mapping[str, int]], copy: Copy | None = None, finish: Finish | None = None
    ) -> dict[str, Any] | None:
        """Write the last event and the reports.

        :param finish: is called once the reports are there
        :param copy: puts a copy of the record elsewhere, and says why it could not
        :return: the record; None where there is no journal
        :raises OSError: a report could not be written
        """
        now = time.time()
        self.append("run_end", at_s=now, sync=True, stats=stats)
        return self._close(now, copy, finish)

    def stop(self, reason: str, copy: Copy | None = None, finish: Finish | None = None) -> dict[str, Any] | None:
        """The run ends before its time: say why, and make the record of what was done."""
        for words in last_words(self.directory) if self.directory else ():
            self.append("last_words", **words)
        now = time.time()
        self.append("run_stopped", at_s=now, sync=True, text=reason)
        return self._close(now, copy, finish)

    def wait_for_modules(self) -> None:
        """Wait until each module that was told to stop has rolled back and ended, for a bounded time."""
        if self.directory is not None and not wait_for_modules(self.directory, _PATIENCE_S):
            self.append("note", text=_STILL_AT_WORK)

    def _close(self, ended: float, copy: Copy | None, finish: Finish | None) -> dict[str, Any] | None:
        for name in _EXPORTED:
            os.environ.pop(name, None)
        if self._journal is None or self.directory is None:
            return None
        try:
            record = render_run(self.directory, publish=True)
            steps = finish(record) if finish is not None else ()
            for step in steps:
                self.step(step)
            if steps:
                record = render_run(self.directory, publish=True)
            warning = copy(record) if copy is not None else None
            if warning is not None:
                # At the moment of the end: the run took no longer than it did.
                self.append("warning", at_s=ended, sync=True, text=warning)
                record = render_run(self.directory, publish=True)
        finally:
            for name in (PERMITS, LAST_WORDS):
                (self.directory / name).unlink(missing_ok=True)
            if self._journal is not None:
                self._journal.close()
                self._journal = None
        return record
