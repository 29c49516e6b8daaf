"""Keeps the record of every run of the playbooks beside it; the work is done in module_utils/runbook/report."""

from __future__ import annotations

DOCUMENTATION = """
name: run_record
type: aggregate
short_description: Journal, record, report, metrics and live progress of a run
description:
  - Appends what happens to C(journal.jsonl) in a folder of its own for each run, and makes C(record.json),
    C(report.html), C(report.md) and C(metrics.prom) from it at the end.
  - Shows the progress that modules report while they run.
  - Ends the run with a non-zero code where no host did anything, where the journal or the report could not be written,
    and where a result was C(breach) or C(unknown) though no task failed.
  - It stands beside the playbooks and needs not be enabled.
options:
  runs_dir:
    description:
      - Folder under which each run gets its own.
      - If it is not given, the folder C(runs) of the project; under ansible-runner, as in AWX, C(runs) in the folder of
        its artifacts, because the files there come back from where the run was.
    type: path
    env:
      - name: RUNBOOK_RUNS_DIR
    ini:
      - section: run_record
        key: runs_dir
  progress:
    description:
      - How progress is shown.
      - C(bar) draws on the terminal, C(lines) prints a line now and then, C(off) shows nothing; C(auto) draws on a
        real terminal, and prints lines elsewhere and in AWX.
    type: str
    choices: [auto, bar, lines, "off"]
    default: auto
    env:
      - name: RUNBOOK_PROGRESS
    ini:
      - section: run_record
        key: progress
"""

# Ansible wants its documentation before the imports.
import atexit
import getpass
import importlib.util
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.constants as settings
import ansible.context as cli
import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.executor.stats import AggregateStats
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.parsing.splitter import parse_kv
from ansible.playbook import Playbook
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader
from ansible.release import __version__ as ansible_version
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

PROJECT = Path(__file__).resolve().parents[2]
if str(PROJECT / "module_utils") not in ansible.module_utils.__path__:
    # Under this name alone: a second one would load the exception classes twice.
    ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))

from ansible.module_utils.runbook.rules import requirements

# Ansible loads callbacks before the first play; what it raises here itself would be no more than a warning.
_REFUSAL = requirements.refusal(
    ansible_version,
    [name for name in requirements.PACKAGES if importlib.util.find_spec(name) is None],
    sys.executable,
)
if _REFUSAL is not None:
    Display().error(_REFUSAL, wrap_text=False)
    raise SystemExit(1)

from ansible.module_utils.runbook.drivers import links, process, watchdog
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.report import board
from ansible.module_utils.runbook.report.places import place_of
from ansible.module_utils.runbook.report.progress import Watch
from ansible.module_utils.runbook.report.recorder import Finish, LateStep, Recorder, end_in_absence
from ansible.module_utils.runbook.report.terminal import last_warnings, last_words, summary_lines
from ansible.module_utils.runbook.rules import failure, fleet, state, variables
from ansible.module_utils.runbook.rules import job as jobs
from ansible.module_utils.runbook.rules import record as rules
from ansible.module_utils.runbook.rules.board import index as indexes
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.run import HOST, Batch, Run, command_line, split
from ansible.module_utils.runbook.rules.schedule import schedule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.parsing.dataloader import DataLoader
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

#: Includes have no result of their own: what they bring in has.
_NO_STEP = frozenset(settings._ACTION_ALL_INCLUDES)  # noqa: SLF001 - the list has no public name


#: Seconds that Ansible may take to end its workers after a signal, before it is interrupted once more.
_STUCK_S = 10.0
#: How often what the board knows is written again that another run wrote to meanwhile.
_ATTEMPTS = 10
#: What the board says of itself where its document in the state store was damaged.
_MENDED = (
    "The board in the state store was damaged, and is mended; what only other places knew is missing until they run "
    "again, or playbooks/board.yml reads their records."
)
#: How a warning begins that a copy of the record could not be put.
_NO_COPY = "The state store has no copy of this run's record."
#: The playbook that only renews the board.
_OF_THE_BOARD = "board"
#: What the board has to know of an inventory: variables, and how it calls them.
_PLAN = {"maintenance_calendar": "calendar", "maintenance_operations": "operations", "schedule_jobs": "schedules"}
#: Options of pg_preflight by which a database is reached.
_LOGIN = ("dsn", "login_host", "login_port", "login_user", "login_password", "login_db", "ssl_mode", "ca_cert")


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible has no types
    """Translates what Ansible announces into events of the run's record."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_record"

    def __init__(self) -> None:
        super().__init__()
        self._own_modules = {path.stem for path in (PROJECT / "library").glob("*.py")}
        self._recorder: Recorder | None = None
        self._watch: Watch | None = None
        self._play: Play | None = None
        #: How the run goes through its hosts, and which batch of the play this is.
        self._fleet = fleet.Fleet()
        self._batch = Batch()
        #: Hosts that failed in this play.
        self._failed: set[str] = set()
        self._told_error = False
        self._stopped_by = ""
        #: How the databases are reached whose lease this run holds, by host; in memory alone.
        self._leases: dict[str, dict[str, Any]] = {}
        #: Renews the leases in the state store; None while there are none.
        self._keeper: Any = None
        #: How each of those is reached, by its name: the options of the proof that took it.
        self._state_leases: dict[str, dict[str, Any]] = {}
        #: What the run opened for its change, by the module that opened it: the host and the options that end it.
        self._ends: dict[str, dict[str, Any]] = {}
        #: The open change: the host and the options that close it; None where the run has none.
        self._change: dict[str, Any] | None = None
        #: A task saw whether something of the change was left out, or it needs nothing.
        self._is_checked = False
        #: Where the state store has a copy of the record; empty where it has none.
        self._copy = ""
        #: What AWX shows as the artifacts of its job; None elsewhere.
        self._artifacts: dict[str, Any] | None = None
        #: How the state store is reached that answered to this run's record; None where none did.
        self._store: dict[str, Any] | None = None
        #: Ends the run in order where this process cannot; None where no process could be begun.
        self._watchdog: watchdog.Watchdog | None = None
        atexit.register(self._abandon)

    # --- the run ---

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Open the journal, and tell the modules to come."""
        options = cli.CLIARGS
        self._told_error = False
        if settings.DISPLAY_ARGS_TO_STDOUT:
            # The default callback asks for it at each task.
            settings.DISPLAY_ARGS_TO_STDOUT = False
            _say(self._display.warning, "display_args_to_stdout shows passwords, so this run goes on without it.")
        loader = playbook._loader  # noqa: SLF001 - it has no public accessor
        told = _said(loader)
        job = jobs.of(os.environ, load_extra_vars(loader))
        artifacts = os.environ.get(jobs.ARTIFACTS)
        self._recorder = Recorder(
            Path(self.get_option("runs_dir") or Path(artifacts or PROJECT) / "runs").absolute(), PROJECT
        )
        # Before anything of the run is open here: it would stay open there.
        with suppress(OSError):
            self._watchdog = watchdog.Watchdog(_answer, _bury)
        handle, progress_file = tempfile.mkstemp(prefix="runbook-progress-", dir=settings.DEFAULT_LOCAL_TMP)
        os.close(handle)
        self._recorder.begin(
            playbook._file_name,  # noqa: SLF001 - as above
            Path(progress_file),
            {
                "inventory": [_of_project(source) for source in options.get("inventory") or ()],
                "user": (job and job.user) or os.environ.get("SUDO_USER") or _user(),
                "check_mode": bool(options.get("check")),
                "diff_mode": bool(options.get("diff")),
                "ansible_version": ansible_version,
                "limit": options.get("subset"),
                "tags": [tag for tag in options.get("tags") or () if tag != "all"],
                "skip_tags": list(options.get("skip_tags") or ()),
                "play_count": len(playbook.get_plays()),
            },
            process=str(process.own() or ""),
            said=told,
            job=job,
        )
        self._artifacts = _artifacts_of_runner(self._recorder) if artifacts else None
        self._tell_watchdog()
        self._take_signals()
        self._watch = Watch(
            Path(progress_file),
            self.get_option("progress"),
            self._display,
            self._sample,
            colour=not settings.ANSIBLE_NOCOLOR,
        )
        self._tell_error()
        refused = ""
        try:
            self._append("inventory", **_of_inventory(playbook.get_plays()))
            refused = rules.no_such_tag(
                Path(playbook._file_name).name,  # noqa: SLF001 - as above
                options.get("tags") or (),
                options.get("skip_tags") or (),
                {tag for each in _all_playbooks(playbook) for play in each.get_plays() for tag in _tags(play)},
            )
            if not refused:
                self._divide(playbook, told)
        except RunbookError as error:
            refused = error.message
        if refused:
            self._append("refused", text=refused)
            self.v2_playbook_on_stats(AggregateStats())

    def _divide(self, playbook: Playbook, told: Mapping[str, str]) -> None:
        """Look at the hosts before any is begun: does a limit mean what it says, and which go first.

        :param told: what ``-e`` said
        :raises RunbookError: the limit names nobody, a variable means nothing or differs between hosts, or the run is
            not the job that it says
        """
        plays = playbook.get_plays()
        if not plays:
            return
        manager = plays[0].get_variable_manager()
        inventory = manager._inventory  # noqa: SLF001 - it has no public accessor
        known = {*inventory.hosts, *inventory.groups}
        wrong = [
            each
            for each in inventory._subset or ()  # noqa: SLF001 - as above
            if each.lstrip("!&") not in known and not inventory.get_hosts(each.lstrip("!&"), ignore_limits=True)
        ]
        if wrong:
            raise RunbookError(fleet.nobody(cli.CLIARGS["subset"], wrong, known))
        hosts = {host.name: host for play in _plain(plays) for host in _hosts(inventory, play)}
        given = manager.get_vars(play=plays[0], host=next(iter(hosts.values()))) if hosts else {}
        templar = Templar(loader=manager._loader, variables=given)  # noqa: SLF001 - as above
        started = Path(playbook._file_name).name  # noqa: SLF001 - as above
        self._fleet = fleet.agreed({name: _fleet_of(manager, plays[0], host, started) for name, host in hosts.items()})
        is_own = Path(playbook._file_name).resolve().parent == PROJECT / "playbooks"  # noqa: SLF001 - as above
        if told.get("preflight_job") and is_own and "schedule_jobs" in given:
            _check_job(started, told, _filled_in(templar, "schedule_jobs", given) or {})
        for play in plays:
            play.serial = play.serial or list(self._fleet.batches)
        self._prepare(given)

    def _prepare(self, given: Mapping[str, Any]) -> None:
        """Do here once what each worker of Ansible would do again for each task: a fork finds it done.

        :param given: the variables of some host; they have the same names everywhere
        """
        for loader in (filter_loader, test_loader):
            list(loader.all())
        forked = _forked_module()
        if forked is not None:
            variables.unknown(given, forked.KNOWN)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Write the record; end the run red where Ansible would end it green though work was not done."""
        self._end_batch()
        recorder = self._over()
        if recorder is None:
            return
        counts = {host: dict(stats.summarize(host)) for host in sorted(stats.processed)}
        failed = any(host["failures"] or host["unreachable"] for host in counts.values())
        try:
            self._end_change(recorder, unchecked=not (failed or self._is_checked))
            self._give_leases_back(recorder)
            record = recorder.end(
                counts, partial(self._copy_record, recorder, sorted(stats.processed)), self._finish_change(recorder)
            )
            page = self._renew_board(recorder, record)
        except Exception as error:  # Ansible would only warn of it, and end a run without its report green
            _say(self._display.error, f"The run's report could not be written in {recorder.directory}: {error}")
            raise SystemExit(1) from None
        finally:
            self._dismiss_watchdog()
        if record is None or recorder.directory is None:
            _say(self._display.error, recorder.error or "The run has no record.")
            raise SystemExit(1)
        try:
            self._show(record, recorder.directory, page)
        finally:
            # However the words went: Ansible makes a warning of a callback's exception.
            if record["status"] != Status.OK and not failed:
                raise SystemExit(1)

    def _take_signals(self) -> None:
        """Let SIGTERM end the run as Ctrl-C does: modules roll back, and there is a report.

        Ansible's own way with SIGTERM is to die at once.
        """
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):

            def on_ctrl_c(number: int, frame: FrameType | None) -> None:
                self._stopped_by = self._stopped_by or "Ctrl-C"
                hurry()
                on_interrupt(number, frame)

            def on_terminate(_number: int, frame: FrameType | None) -> None:
                self._stopped_by = "SIGTERM"
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                hurry()
                on_interrupt(signal.SIGINT, frame)

            def hurry() -> None:
                # A worker that dies with the lock of Ansible's queue keeps Ansible waiting for that lock for good.
                signal.signal(signal.SIGALRM, on_interrupted_again)
                signal.setitimer(signal.ITIMER_REAL, _STUCK_S, _STUCK_S)

            def on_interrupted_again(_number: int, _frame: FrameType | None) -> None:
                raise KeyboardInterrupt

            signal.signal(signal.SIGINT, on_ctrl_c)
            signal.signal(signal.SIGTERM, on_terminate)

    def _over(self) -> Recorder | None:
        """Take the terminal back, and the recorder of the run that is over."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch, self._watch = self._watch, None
        if watch is not None:
            with suppress(OSError, ValueError):
                watch.close()
        recorder, self._recorder = self._recorder, None
        return recorder

    def _abandon(self) -> None:
        """Ansible ends without its statistics: after Ctrl-C, or an error of its own."""
        recorder = self._over()
        if recorder is not None:
            recorder.wait_for_modules()
            self._end_change(recorder)
            self._give_leases_back(recorder)
            why = self._stopped_by or "an error of Ansible's own, which stands above"
            try:
                record = recorder.stop(
                    f"The run was stopped by {why} before its end",
                    partial(self._copy_record, recorder, []),
                    self._finish_change(recorder),
                )
                page = self._renew_board(recorder, record)
            except (OSError, RunbookError) as error:
                _say(self._display.error, f"The run's report could not be written in {recorder.directory}: {error}")
                return
            finally:
                self._dismiss_watchdog()
            if record is not None and recorder.directory is not None:
                self._show(record, recorder.directory, page)
                for note in record["notes"]:
                    _say(self._display.display, note)

    def _tell_watchdog(self, forget: str = "") -> None:
        """Let the process that outlives this one know what the run holds.

        :param forget: the module that a worker told of, and whose thing is over
        """
        if self._watchdog is not None and self._recorder is not None and self._recorder.directory is not None:
            self._watchdog.know(
                {
                    "run_id": os.environ["RUNBOOK_RUN_ID"],
                    "directory": str(self._recorder.directory),
                    "ends": self._ends,
                    "change": self._change,
                },
                [forget] if forget else [],
            )

    def _hold(self, kind: str, name: str, what: Mapping[str, Any] | None) -> None:
        """Let it know of one lease; of all hosts' each time, it would be told more with each host."""
        if self._watchdog is not None:
            self._watchdog.hold(kind, name, what)

    def _ask(self, what: str, facts: Mapping[str, Any], services: int = 1) -> Any:
        """Have the process that outlives this one do something; None where whether it was done is unknown."""
        return None if self._watchdog is None else self._watchdog.ask(what, facts, services)

    def _dismiss_watchdog(self) -> None:
        """The run ended in order."""
        outliving, self._watchdog = self._watchdog, None
        if outliving is not None:
            outliving.dismiss()

    def _facts(self, recorder: Recorder, **more: Any) -> dict[str, Any]:
        """What the process that outlives this one needs to act for the run."""
        return {"run_id": os.environ.get("RUNBOOK_RUN_ID", ""), "directory": str(recorder.directory or ""), **more}

    def _end_change(self, recorder: Recorder, *, unchecked: bool = False) -> None:
        """End what the run opened for its change and no task ended, but for the ticket, which gets the report.

        :param unchecked: nothing failed, and no task came to see that nothing was left out
        """
        ends = dict(self._ends)
        if unchecked and self._change is not None:
            ends[closing.CHECK] = self._change
        said = self._ask("end", self._facts(recorder, ends=ends, change=self._change), len(ends) + 1)
        for step in _steps_of(ends, said, but=(closing.TICKET, closing.CLOSE)):
            recorder.step(step)

    def _finish_change(self, recorder: Recorder) -> Finish:
        """What puts the report on the ticket and closes the change, where the run opened one."""
        facts = self._facts(recorder, ends=dict(self._ends), change=self._change)
        self._ends, self._change, self._is_checked = {}, None, False

        def finish(record: dict[str, Any]) -> list[LateStep]:
            # The ticket gets a comment, and is closed; and then the change is.
            said = self._ask("finish", facts | {"status": record["status"], "verdict": record["verdict"]}, 3)
            calls = facts["ends"] | ({closing.CLOSE: facts["change"]} if facts["change"] else {})
            return _steps_of(calls, said, only=(closing.TICKET, closing.CLOSE))

        return finish

    def _give_leases_back(self, recorder: Recorder) -> None:
        """Give back the leases that no task gave back, so that nobody waits for their end."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        if self._leases or self._state_leases:
            held = {
                "run_id": os.environ["RUNBOOK_RUN_ID"], "leases": self._leases, "state_leases": self._state_leases,
            }  # fmt: skip
            said = self._ask("give_back", held)
            names = ", ".join([*self._leases, *self._state_leases])
            unsaid = [f"{names}: whether the lease was given back is unknown; it ends by itself within 15 minutes."]
            for text in unsaid if said is None else said:
                recorder.append("warning", text=text)
        self._leases.clear()
        self._state_leases.clear()

    def _copy_record(self, recorder: Recorder, hosts: list[str], record: dict[str, Any]) -> str | None:
        """Put a copy of the record into the state store that the inventory names; why not, in one sentence.

        What the run itself is said to be never depends on it.
        """
        if record["check_mode"]:
            return None
        try:
            environment, settings = self._state_settings(hosts)
            recorder.hide(settings)
            if settings:
                said = self._ask("copy", {"record": record, "settings": settings, "environment": environment})
                if said is None:
                    raise UnreachableError("Whether it was written is unknown.")
                if not said["why_not"] or said["is_refused"]:
                    # A record that the store does not take is on the board all the same, in a few lines.
                    self._store = {"settings": settings, "environment": environment}
                if said["why_not"]:
                    raise RunbookError(said["why_not"])
                self._copy = said["place"]
        except Exception as error:
            said = error.message if isinstance(error, RunbookError) else failure.sentence("run_record", error)
            return f"{_NO_COPY} {said}"
        return None

    def _state_settings(self, hosts: list[str]) -> tuple[str, dict[str, Any]]:
        """The inventory's environment, and the variables ``state_…`` of the first host that names a store.

        :param hosts: the hosts of the run; those of the inventory where it had none
        :raises RunbookError: one of them cannot be read
        """
        if self._play is None:
            return "", {}
        manager = self._play.get_variable_manager()
        inventory = manager._inventory  # noqa: SLF001 - as above
        for host in filter(None, map(inventory.get_host, hosts)) if hosts else inventory.get_hosts():
            known = manager.get_vars(play=self._play, host=host)
            if "state_bucket" in known or "state_directory" in known:
                templar = Templar(loader=manager._loader, variables=known)  # noqa: SLF001 - as above
                wanted = [name for name in known if name.startswith("state_")]
                found = {name: _filled_in(templar, name, known) for name in wanted}
                return str(_filled_in(templar, "runbook_environment", known)), found
        return "", {}

    def _renew_board(self, recorder: Recorder, record: dict[str, Any] | None) -> Path | None:
        """Renew the board; None where it was not. What the run itself is said to be never depends on it."""
        if record is None or recorder.directory is None or record["check_mode"]:
            return None
        runs, now, notes, others = recorder.directory.parent, datetime.now(UTC), [], None
        try:
            plan = self._plan(record, now)
            if self._store is not None and plan is not None:
                mine = {"runs": str(runs), "place": plan[0], "plan": plan[1], "record": _writer(record)}
                said = self._ask("board", mine | self._store) or {"why_not": "The state store gave no answer."}
                if "index" in said:
                    others = said["index"]
                    now, doubt = indexes.by_clock_of_store(now, said["ahead_s"])
                    notes += [*doubt, *filter(None, [said["note"]])]
                else:
                    notes.append(f"Runs of other places may be missing. {said['why_not']}")
            else:
                told = [each["text"] for each in record["warnings"] if _NO_COPY in each["text"]]
                notes += [f"Runs of other places may be missing.{text.partition(_NO_COPY)[2]}" for text in told]
            # What is there for nothing else has the time for it.
            patience_s = None if record["playbook"] == _OF_THE_BOARD else board.PATIENCE_S
            return board.renew(runs, now, plan=plan, others=others, notes=notes, patience_s=patience_s)
        except Exception as error:
            why = error.message if isinstance(error, RunbookError) else failure.sentence("run_record", error)
            _say(self._display.warning, f"The board is older than this run. {why}")
        return None

    def _plan(self, record: Mapping[str, Any], now: datetime) -> board.Plan | None:
        """What the board has to know of the inventory; None where there is none.

        :raises RunbookError: a variable of it cannot be read
        """
        if self._play is None:
            return None
        manager = self._play.get_variable_manager()
        inventory = manager._inventory  # noqa: SLF001 - as above
        every = inventory.get_hosts(ignore_limits=True)
        if not every:
            return None
        known = manager.get_vars(play=self._play, host=every[0])
        templar = Templar(loader=manager._loader, variables=known)  # noqa: SLF001 - as above
        said = {name: _filled_in(templar, name, known) or {} for name in _PLAN if name in known}
        environment = str(_filled_in(templar, "runbook_environment", known))
        groups = {
            name: sorted(map(str, hosts))
            for name, hosts in inventory.get_groups_dict().items()
            if name not in ("all", "ungrouped") and hosts
        }
        place = place_of(record["inventory"], environment)
        plan = {key: said.get(name, {}) for name, key in _PLAN.items()} | {
            "at": rules.timestamp(now.timestamp()),
            "environment": environment,
            "inventory": next(iter(board.named_from_root(record, place)), ""),
            "groups": groups,
            **({"is_part": True} if jobs.has_slice(load_extra_vars(manager._loader)) else {}),  # noqa: SLF001 - as above
        }
        return place, json.loads(json.dumps(plan, default=str))

    def _show(self, record: dict[str, Any], directory: Path, page: Path | None = None) -> None:
        """What the run did, where its reports are, and last what needs a person."""
        for line in summary_lines(record, _width()):
            _say(self._display.display, line)
        for path in sorted(directory.glob("*.html"), key=lambda path: (path.name != "report.html", path.name)):
            _say(self._display.display, f"{path.stem.title()}: {_shortened(path)}")
        if self._copy and record.get("job"):
            # The folder of the run ends with the container of the job.
            _say(self._display.display, f"Record: {self._copy}")
        if page is not None:
            _say(self._display.display, f"Board: {_shortened(page)}")
        for line in last_warnings(record, _width()):
            _say(self._display.display, f"[WARNING]: {line}", color=settings.COLOR_WARN, stderr=True)
        for line in last_words(record, _width()):
            _say(self._display.error, line)

    # --- plays and tasks ---

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """A play begins, or the next batch of its hosts."""
        self._end_batch()
        is_next = self._play is not None and self._play._uuid == play._uuid  # noqa: SLF001 - it has no public name
        self._play = play
        hosts = play.hosts if isinstance(play.hosts, str) else ", ".join(map(str, play.hosts))
        inventory = play.get_variable_manager()._inventory  # noqa: SLF001 - as above
        every = _hosts(inventory, play)
        found = fleet.sizes(play.serial, len(every))
        if not is_next:
            self._failed = set()
        self._batch = Batch(
            self._play_id(), self._batch.number + 1 if is_next else 1, max(1, len(found)),
            fleet.held(self._failed, self._fleet.stop_after_failures) if is_next else "",
        )  # fmt: skip
        if self._recorder is not None:
            self._recorder.begin_batch(self._batch)
        self._append(
            "play_start", play=self._play_id(), name=play.get_name().strip(), hosts=hosts, tags=_tags(play),
            batch={"number": self._batch.number, "of": self._batch.of, "held": self._batch.held},
            begun=[host.name for host in inventory.get_hosts(play.hosts)],
            **({} if is_next else {"every": [host.name for host in every]}),
        )  # fmt: skip
        if len(found) > 1 and not is_next:
            said = fleet.plan(play.get_name().strip(), found, self._fleet.stop_after_failures)
            self._append("note", text=said)
            _say(self._display.display, said)

    def _end_batch(self) -> None:
        """Write down which hosts the play that is over left in its middle."""
        if self._play is not None:
            removed = sorted(set(self._play._removed_hosts))  # noqa: SLF001 - it has no public name
            self._append("play_end", play=self._play_id(), removed=removed)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """The play that has just begun has no host."""
        self._append("no_hosts", play=self._play_id())

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002 - given by name
        """A task begins, on no host yet."""
        role = task._role.get_name() if task._role else None  # noqa: SLF001
        name = task.get_name().strip()
        if role and name.startswith(f"{role} : "):
            name = name.removeprefix(f"{role} : ")
        module = str(task.action)
        if role and rules.short_name(module) == "validate_argument_spec":
            name = f"Check the variables of role {role}"
        self._append("task_start", task=str(task._uuid), play=self._play_id(), name=name, role=role, module=module)  # noqa: SLF001

    def _play_id(self) -> str:
        return str(self._play._uuid) if self._play is not None else ""  # noqa: SLF001

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """A handler is a task like any other."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        """A task begins on a host."""
        if task.action not in _NO_STEP:
            self._append("host_start", task=str(task._uuid), host=host.get_name())  # noqa: SLF001
            if self._watch is not None:
                self._watch.start(host.get_name(), str(task._uuid))  # noqa: SLF001

    # --- results ---

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """A host is through with a task."""
        if result.task.action not in _NO_STEP:
            self._result(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """A task failed on a host."""
        self._result(result, "failed", ignored=ignore_errors)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """A host could not be reached."""
        self._result(result, "unreachable", ignored=bool(_fields(result).get("ignore_unreachable")))

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """A task was not for this host."""
        if result.task.action not in _NO_STEP:
            self._result(result, "skipped")

    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        """A task is tried again."""
        self._hide(result)
        self._append("retry", task=str(result.task._uuid), host=result.host.get_name())  # noqa: SLF001

    def _result(self, result: CallbackTaskResult, state: str, *, ignored: bool = False) -> None:
        self._hide(result)
        if self._watch is not None:
            self._watch.finish(result.host.get_name())
        own = rules.short_name(str(result.task.action)) in self._own_modules
        failed = state in ("failed", "unreachable")
        said = result.result
        if failed and not ignored and self._play is not None and said.get("code") != fleet.NOT_RUN:
            # One that the play rescued is not among them.
            self._failed |= {result.host.get_name()} & set(self._play._removed_hosts)  # noqa: SLF001 - as in _end_batch
        self._remember_lease(result, failed=failed)
        if own:
            self._remember_change(result, failed=failed)
        msg = rules.message(said, own=own, failed=failed)
        misspelt = self._misspelt(result.host) if failed else None
        if misspelt and misspelt not in msg:
            msg = f"{misspelt} Ansible said: {msg}"
        if self._artifacts is not None and self._recorder is not None:
            status = said.get("status") if own else None
            if (failed and not ignored) or status in (Status.BREACH, Status.UNKNOWN):
                words = f"{result.host.get_name()}, {result.task.get_name().strip()}: {msg}"
                self._artifacts["needs"].append(self._recorder.shown(words))
        self._append(
            "result",
            own=own,
            task=str(result.task._uuid),  # noqa: SLF001
            host=result.host.get_name(),
            state=state,
            ignored=ignored,
            changed=result.is_changed(),
            msg=msg,
            warnings=[str(warning) for warning in said.get("warnings") or ()],
            figures=rules.figures(said, own=own),
        )

    def _misspelt(self, host: Host) -> str | None:
        """Variables that do not exist, in one sentence, once something failed.

        Ansible looks for what a role requires before a module of ours can refuse a misspelt name.
        """
        forked = _forked_module()
        if forked is None or self._play is None:
            return None
        unknown = forked.misspelt(self._play.get_variable_manager().get_vars(play=self._play, host=host))
        return variables.refusal(unknown) if unknown else None

    def _remember_lease(self, result: CallbackTaskResult, *, failed: bool) -> None:
        module, host = rules.short_name(str(result.task.action)), result.host.get_name()
        if module == "pg_preflight" and not failed:
            if (result.result.get("lease") or {}).get("decision", "none") != "none":
                given = _fields(result).get("args") or {}
                self._leases[host] = {name: given[name] for name in _LOGIN if given.get(name) is not None}
                self._hold("leases", host, self._leases[host])
        elif module == "pg_lease" and not failed:
            self._leases.pop(host, None)
            self._hold("leases", host, None)
        elif module in self._own_modules and not failed and {"name", "expires_at"} <= _given(result, "lease"):
            self._keep(result.result, _fields(result).get("args") or {})

    def _remember_change(self, result: CallbackTaskResult, *, failed: bool) -> None:
        """What a module opened for the change of this run, and how it is ended; a failed one may have opened it."""
        module, host = rules.short_name(str(result.task.action)), result.host.get_name()
        options = {
            name: value for name, value in (_fields(result).get("args") or {}).items() if value is not None
        }  # fmt: skip
        if cli.CLIARGS.get("check"):
            return
        end = closing.end_of(module, options)
        if end is not None:
            self._ends[module] = {"host": host, "options": end}
        elif closing.is_end(module, options) and not failed and not options.get("change_id"):
            self._ends.pop(module, None)
            self._tell_watchdog(forget=module)
            return
        elif module == closing.OPEN and not failed:
            self._change = {"host": host, "options": closing.store_of(options)}
            self._is_checked = not result.result.get("items")
        else:
            self._is_checked = self._is_checked or module == closing.CHECK
            return
        self._tell_watchdog()

    def _keep(self, said: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Renew a lease in the state store for as long as this run lives.

        :param said: what the proof returned
        :param given: its options
        """
        # boto3 is loaded by whoever has a store, and by nobody else.
        from ansible.module_utils.runbook.drivers import state_lease  # noqa: PLC0415 - the reason stands above

        target = {key: said["target"][key] for key in ("kind", "place", "name")}
        store = state_lease.store_of(given, said["target"]["environment"])
        if store is None:
            return
        if self._keeper is None:
            self._keeper = state_lease.Keeper(Run.from_environ(os.environ), self._complain)
        self._keeper.hold(said["lease"]["name"], store, Target(**target))
        held = {
            "environment": said["target"]["environment"],
            "settings": {name: value for name, value in given.items() if name.startswith("state_")},
        }
        self._state_leases[said["lease"]["name"]] = held
        self._hold("state_leases", said["lease"]["name"], held)

    def _complain(self, text: str) -> None:
        """Tell of a lease that could not be renewed; called by the thread that renews."""
        _say(self._display.warning, text)
        if self._recorder is not None:
            self._recorder.append("note", text=text)

    def _sample(self, host: str, task: str, event: dict[str, Any]) -> None:
        """Of a running module's progress, what the report's charts need; called by the watching thread."""
        if self._recorder is not None:
            kept = {key: event[key] for key in ("label", "done", "total", "unit", "rate")}
            self._recorder.append("progress", at_s=event["ts"], task=task, host=host, **kept)

    def _hide(self, result: CallbackTaskResult) -> None:
        if self._recorder is not None:
            self._recorder.hide(_fields(result).get("args"))
            self._recorder.hide(_fields(result).get("environment"))

    def _append(self, event: str, **fields: Any) -> None:
        if self._recorder is not None:
            self._recorder.append(event, **fields)
            self._tell_error()

    def _tell_error(self) -> None:
        if self._recorder is not None and self._recorder.error and not self._told_error:
            self._told_error = True
            _say(self._display.error, self._recorder.error)


def _say(say: Callable[..., None], text: str, **how: Any) -> None:
    """Print ``text``; a full disk, or a pipe that nobody reads any more, changes nothing of what the run does."""
    with suppress(OSError, ValueError):
        say(text, **how)


def _given(result: CallbackTaskResult, name: str) -> set[str]:
    """What is set in a dictionary that a result may have."""
    found = result.result.get(name)
    return {key for key, value in found.items() if value} if isinstance(found, dict) else set()


def _fields(result: CallbackTaskResult) -> Mapping[str, Any]:
    """The task as it was run, its templates filled in; core 2.21 deprecates the public name, and has no other yet."""
    fields: Mapping[str, Any] = result._task_fields  # noqa: SLF001
    return fields


def _said(loader: DataLoader) -> dict[str, str]:
    """What ``-e`` said. Ansible's own reading of it forgets which variable came out of which file."""
    given: list[tuple[list[str], dict[str, Any]]] = []
    for word in filter(None, map(str, cli.CLIARGS.get("extra_vars") or ())):
        if word.startswith("@"):
            given.append((_places(word[1:]), loader.load_from_file(word[1:], cache="none")))
        else:
            given.append(([], loader.load(word) if word[0] in "[{" else split(parse_kv(word))))
    sources = [Path(source) for source in cli.CLIARGS.get("inventory") or () if "," not in source]
    # Ansible reads group_vars beside the name of an inventory, which may be a link to where others are.
    folders = [
        source if source.is_dir() else beside
        for source in sources
        for beside in (source.parent, source.resolve().parent)
    ]
    return command_line(given, [str(folder.resolve()) for folder in folders])


def _places(path: str) -> list[str]:
    """The places through which the command line reaches a file; of its name Ansible itself keeps only the end."""
    words = [os.path.expandvars(word.partition("@")[2]) for word in sys.argv if "@" in word]
    ways = [links.places(Path.cwd() / Path(word).expanduser()) for word in [path, *words]]
    return [place for way in ways if way[-1:] == ways[0][-1:] for place in way]


def _check_job(started: str, told: Mapping[str, str], scheduled: Mapping[str, Any]) -> None:
    """Refuse a run that says it is a job and is not, before it could count as the one that was due.

    Preflight asks the same of what it approves; playbooks that only look have none, and one that is begun in its middle
    does not come to it.

    :param told: what ``-e`` said
    :param scheduled: ``schedule_jobs``
    :raises RunbookError: it is another run
    """
    options = cli.CLIARGS
    if options.get("start_at_task") or options.get("step"):
        raise RunbookError(f"job: {told['preflight_job']} is run as a whole; leave --start-at-task and --step out.")
    schedule.check_run(
        schedule.listed(scheduled, told["preflight_job"]),
        playbook=started,
        tags=[tag for tag in options.get("tags") or () if tag != "all"],
        skip_tags=list(options.get("skip_tags") or ()),
        said_there=told,
    )


def _artifacts_of_runner(recorder: Recorder) -> dict[str, Any] | None:
    """What ansible-runner hands on as the artifacts of its job, filled in as the run goes on.

    It takes them from Ansible's statistics, where only results that did not fail may add to them, and writes them down
    before any other callback is told of the end. Ansible tells no callback of these statistics earlier, so they are
    taken from its own object, which is among our callers; None where it is not.
    """
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the public way, inspect, reads source files for it
    while frame is not None:
        manager = frame.f_locals.get("self")
        if isinstance(manager, TaskQueueManager):
            found: dict[str, Any] = {
                "run_id": os.environ.get("RUNBOOK_RUN_ID"),
                "playbook": recorder.playbook,
                "needs": [],
            }
            manager._stats.set_custom_stats("runbook", found)  # noqa: SLF001 - as above
            return found
        frame = frame.f_back
    return None


def _hosts(inventory: Any, play: Play, *, ignore_limits: bool = False) -> list[Host]:
    """All hosts of a play, in the order in which they are worked on, whatever batch it is."""
    return list(
        inventory.get_hosts(play.hosts, ignore_limits=ignore_limits, ignore_restrictions=True, order=play.order)
    )


def _fleet_of(manager: Any, play: Play, host: Host, started: str) -> fleet.Fleet:
    """How a run of a playbook goes through its hosts, as one of them has it.

    :raises RunbookError: a variable means nothing, or cannot be read
    """
    known = manager.get_vars(play=play, host=host)
    wanted = [name for name in (fleet.BATCHES, fleet.STOP_AFTER) if name in known]
    templar = Templar(loader=manager._loader, variables=known)  # noqa: SLF001 - it has no public accessor
    said = {name: _filled_in(templar, name, known) for name in wanted}
    playbooks = {started, *(path.name for path in (PROJECT / "playbooks").glob("*.yml"))} if wanted else set()
    return fleet.read(said.get(fleet.BATCHES), said.get(fleet.STOP_AFTER), playbook=started, known=playbooks)


def _plain(plays: Sequence[Play]) -> list[Play]:
    """Those whose hosts are known: a pattern that is a template is filled in when its play begins."""
    return [play for play in plays if "{{" not in str(play.hosts)]


def _of_inventory(plays: Sequence[Play]) -> dict[str, Any]:
    """What the record says of the inventory: its environment, its hosts, and those that ``--limit`` leaves out."""
    if not plays:
        return {}
    manager = plays[0].get_variable_manager()
    inventory = manager._inventory  # noqa: SLF001 - it has no public accessor
    every = inventory.get_hosts(ignore_limits=True)
    known = manager.get_vars(play=plays[0], host=every[0]) if every else {}
    templar = Templar(loader=manager._loader, variables=known)  # noqa: SLF001 - as above
    left_out: set[str] = set()
    for play in _plain(plays) if cli.CLIARGS.get("subset") else ():
        wanted, chosen = (_hosts(inventory, play, ignore_limits=all_) for all_ in (True, False))
        left_out |= {host.name for host in wanted} - {host.name for host in chosen}
    environment = ""
    # One that cannot be read is for preflight to refuse, and for the doctor to name beside all else.
    with suppress(RunbookError):
        environment = str(_filled_in(templar, "runbook_environment", known))
    return {
        "environment": environment,
        # AWX gives a slice of a job a slice of the inventory.
        "hosts": None if jobs.has_slice(load_extra_vars(manager._loader)) else [host.name for host in every],  # noqa: SLF001 - as above
        "left_out": sorted(left_out),
    }


def _width() -> int | None:
    """Columns of the terminal; None where the output goes into a file or a pipe."""
    return shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None


def _forked_module() -> Any:
    """The plugin that runs our modules and knows our variables; None where this project has none."""
    path = PROJECT / "playbooks" / "action_plugins" / "forked_module.py"
    spec = importlib.util.spec_from_file_location("runbook_forked_module", path)
    if spec is None or spec.loader is None or not path.exists():
        return None
    forked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(forked)
    return forked


# --- in the process that outlives ansible-playbook ---


def _answer(what: str, facts: Mapping[str, Any], told: Mapping[str, Any]) -> Any:
    """Do what the run asks for at its end."""
    if what == "give_back":
        return _give_back(facts)
    if what == "end":
        return _end(_with(facts, told))
    if what == "finish":
        return _finish(_with(facts, told), facts)
    try:
        if what == "board":
            return _share_board(facts)
        return {"place": _put_record(facts["record"], facts["settings"], facts["environment"]), "why_not": ""}
    except Exception as error:
        why_not = error.message if isinstance(error, RunbookError) else failure.sentence("run_record", error)
        is_refused = isinstance(error, RunbookError) and error.code in state.REFUSED
        return {"place": "", "why_not": why_not, "is_refused": is_refused}


def _bury(facts: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """End a run whose ansible-playbook was killed."""
    known = _with(facts, told)
    end_in_absence(
        Path(facts["directory"]),
        partial(_give_back, facts),
        lambda: _steps_of({}, _end(known)),
        lambda record: _steps_of({}, _finish(known, record)),
    )
    with suppress(OSError, RunbookError):
        board.renew(Path(facts["directory"]).parent, datetime.now(UTC))


def _with(facts: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the run knows of its change, and what workers told of modules whose results it may not have seen."""
    hints = {module: call for module, call in told.items() if module != closing.OPEN}
    return {**facts, "ends": {**hints, **facts["ends"]}, "change": facts["change"] or told.get(closing.OPEN)}


def _end(facts: Mapping[str, Any]) -> dict[str, Any]:
    """End what the run opened for its change, but for the ticket; what each module said."""
    ends = {module: call for module, call in facts["ends"].items() if module != closing.TICKET}
    return {module: _run_module(module, ends[module], facts) for module in closing.in_order(ends)}


def _finish(facts: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Put the report on the ticket, and close the change; what each module said.

    :param record: the run's status and verdict
    """
    said: dict[str, Any] = {}
    ticket = facts["ends"].get(closing.TICKET)
    if ticket is not None:
        report = Path(facts["directory"]) / "report.md"
        end = {"text": record["verdict"], "report": str(report) if report.exists() else None}
        if record["status"] == Status.OK:
            end["state"] = "closed"
        said[closing.TICKET] = _run_module(closing.TICKET, ticket | {"options": ticket["options"] | end}, facts)
    if facts["change"] is not None:
        said[closing.CLOSE] = _run_module(closing.CLOSE, facts["change"], facts)
    return said


def _run_module(name: str, call: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run a module for the run that is at its end; the inventory host, and its result.

    :param call: the inventory host, and its options
    """
    forked = _forked_module()
    if forked is None:
        return call["host"], _NOTHING | {"msg": f"{name} was not run: this project has no forked_module."}
    options = {option: value for option, value in call["options"].items() if value is not None}
    _be_the_run(facts)
    done = forked.in_fork(
        forked.load(name), json.dumps({"ANSIBLE_MODULE_ARGS": options}, default=str).encode(), {HOST: call["host"]}
    )
    try:
        found: dict[str, Any] = json.loads(done["stdout"])
    except ValueError:
        found = _NOTHING | {"msg": f"{name} ended without a result; what it did is unknown."}
    return call["host"], found


def _be_the_run(facts: Mapping[str, Any]) -> None:
    """Have modules know which run they belong to, and look after this process instead of one that may be gone."""
    os.environ["RUNBOOK_RUN_ID"] = facts["run_id"]
    os.environ["RUNBOOK_PROCESS"] = str(process.own() or "")
    if facts.get("directory"):
        os.environ["RUNBOOK_RUN_DIR"] = facts["directory"]


def _give_back(facts: Mapping[str, Any]) -> list[str]:
    """Give back the leases of the run; what is to be said of those that could not be."""
    _be_the_run(facts)
    said = []
    for name, where in facts.get("state_leases", {}).items():
        from ansible.module_utils.runbook.drivers import state_lease  # noqa: PLC0415 - see _keep

        try:
            store = state_lease.store_of(where["settings"], where["environment"])
        except RunbookError as error:
            said.append(f"{name} was not given back, and ends by itself within 15 minutes. {error.message}")
        else:
            said.append(state_lease.give_back(store, facts["run_id"], name) if store else "")
    for host, login in facts.get("leases", {}).items():
        why = _give_lease_back(login)
        said.append(f"{host}: {why}" if why else "")
    return list(filter(None, said))


def _give_lease_back(login: Mapping[str, Any]) -> str:
    """Run pg_lease; what it said, nothing where nobody holds the lease."""
    forked = _forked_module()
    if forked is None:
        return "its lease ends by itself within 15 minutes."
    options = json.dumps({"ANSIBLE_MODULE_ARGS": dict(login)}, default=str).encode()
    try:
        said = json.loads(forked.in_fork(forked.load("pg_lease"), options, {})["stdout"])
    except ValueError:
        return "its lease ends by itself within 15 minutes."
    return str(said["msg"]) if said.get("failed") or said["holder"] else ""


#: How the steps of a run's end are called.
_END_NAMES = {
    "maintenance_mode": "End maintenance mode",
    "change_silence": "Remove the silence",
    "change_status_page": "End maintenance on the status page",
    "change_check": "See that nothing was left out",
    "change_ticket": "Put the report on the ticket",
    "change_close": "Close the change",
}


#: What is said of a module that nobody answers for.
_NOTHING: dict[str, Any] = {
    "failed": True,
    "status": Status.UNKNOWN,
    "msg": "Whether this was done is unknown; the next run looks first.",
}


def _steps_of(
    calls: Mapping[str, Any],
    said: Mapping[str, Any] | None,
    *,
    only: Sequence[str] = (),
    but: Sequence[str] = (),
) -> list[LateStep]:
    """The steps of a run's end, in their order.

    :param calls: what should have been ended, by its module
    :param said: host and result of what was; None where nobody answered
    """
    found = {module: (call["host"], _NOTHING) for module, call in calls.items()} | dict(said or {})
    return [
        LateStep(found[module][0], name, module, found[module][1])
        for module, name in _END_NAMES.items()
        if module in found and module not in but and (not only or module in only)
    ]


def _filled_in(templar: Templar, name: str, known: Mapping[str, Any]) -> Any:
    """A variable with its templates filled in.

    :raises RunbookError: it cannot be; Ansible's own text might quote what it is made of
    """
    try:
        return templar.template(known.get(name, ""))
    except AnsibleError:
        raise RunbookError(f"{name}: what it refers to cannot be read; correct it in the inventory.") from None


def _put_record(record: dict[str, Any], settings: Mapping[str, Any], environment: str) -> str:
    """Put a copy of the record into the state store, if the settings name one; where it is now.

    :raises RunbookError: it could not be put
    """
    # boto3 is loaded by whoever has a store, and by nobody else.
    from ansible.module_utils.runbook.drivers import state_store  # noqa: PLC0415 - the reason stands above

    store = state_store.from_settings(settings, environment)
    if store is None:
        return ""
    name = state.record_name(record["run_id"])
    store.create(
        state.Document(
            name=name,
            body=record,
            run_id=record["run_id"],
            controller=str(record["controller"]),
            written_at=record["last_event_at"],
            token=secrets.token_hex(16),
        )
    )
    return f"{str(store).rstrip('/')}/{name}{state.SUFFIX}"


def _writer(record: Mapping[str, Any]) -> dict[str, str]:
    """Who writes a document of this run."""
    return {"run_id": record["run_id"], "controller": str(record["controller"]), "written_at": record["last_event_at"]}


def _share_board(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Put what this machine knows of all runs into the state store; what all know together.

    What is damaged there is mended.

    :return: the ``index``, how far this machine's clock is ahead of the store's (``ahead_s``), and what is to be said
        of what was damaged there (``note``)
    :raises RunbookError: the store cannot be asked, or does not hold what we write
    """
    # boto3 is loaded by whoever has a store, and by nobody else.
    from ansible.module_utils.runbook.drivers import state_store  # noqa: PLC0415 - the reason stands above

    store = state_store.from_settings(facts["settings"], facts["environment"])
    if store is None:
        return {"index": indexes.empty(), "ahead_s": 0.0, "note": ""}
    name = state.board_name(facts["place"])
    found = store.read(name)
    ahead_s = (datetime.now(UTC) - found.now).total_seconds()
    mine = board.known(Path(facts["runs"]), found.now, (facts["place"], facts["plan"]))
    for _attempt in range(_ATTEMPTS):
        before = "" if found.document is None else json.dumps(found.document.body | {"now": ""}, sort_keys=True)
        note = ""
        try:
            index = indexes.read(before) if before else indexes.empty()
            if indexes.mend(index):
                note = _MENDED
        except RunbookError as error:
            if error.code != "board_damaged":
                raise
            # Each place puts in again what it knows.
            index, note = indexes.empty(), _MENDED
        indexes.merge(index, mine)
        indexes.forget(index, found.now)
        if not isinstance(store, state_store.Folder):
            indexes.note_clock(index, found.now)
        if json.dumps(index | {"now": ""}, sort_keys=True) == before:
            return {"index": index, "ahead_s": ahead_s, "note": note}
        document = state.Document(name=name, body=index, token=secrets.token_hex(16), **facts["record"])
        try:
            if found.document is None:
                store.create(document)
            else:
                store.replace(document, found.version)
        except state_store.ConflictError:
            # Of two runs at once the later one reads what the earlier one wrote.
            found = store.read(name)
        else:
            return {"index": index, "ahead_s": ahead_s, "note": note}
    raise RunbookError(f"State store: {name} was changed by other runs all the while; the next run puts it right.")


def _all_playbooks(own: Playbook) -> list[Playbook]:
    """The playbook that begins, and the others of the command line, which its tags are for too.

    One that cannot be read is refused by Ansible when its turn comes.
    """
    found, plays = [own], own.get_plays()
    said = {*(cli.CLIARGS.get("tags") or ()), *(cli.CLIARGS.get("skip_tags") or ())} - {"all"}
    mine = Path(own._file_name).resolve()  # noqa: SLF001 - it has no public name
    for path in cli.CLIARGS.get("args") or () if said and plays else ():
        if Path(path).resolve() != mine:
            with suppress(AnsibleError):
                manager = plays[0].get_variable_manager()
                found.append(Playbook.load(path, variable_manager=manager, loader=own._loader))  # noqa: SLF001 - as above
    return found


def _tags(play: Play) -> list[str]:
    """The tags that the tasks of a play bear."""
    found: set[str] = set()

    def collect(items: Iterable[Any]) -> None:
        for item in items:
            found.update(map(str, item.tags))
            for part in ("block", "rescue", "always"):
                collect(getattr(item, part, None) or ())

    collect([*play.pre_tasks, *play.tasks, *play.post_tasks])
    return sorted(found - {"always", "never"})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's arbitrary user id
        return f"uid {os.getuid()}"


def _of_project(source: object) -> str:
    """An inventory source as it is named from the project's root, wherever people stand."""
    text = str(source)
    if "," in text:
        return text
    path = Path(text).absolute()
    found = next((each for each in (path, path.resolve()) if each.is_relative_to(PROJECT)), None)
    return str(found.relative_to(PROJECT) if found else path)


def _shortened(source: object) -> str:
    """A path as people name it: relative to where they stand, if that is shorter."""
    text = str(source)
    return min(text, os.path.relpath(text), key=len)
