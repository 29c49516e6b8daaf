"""What bad luck does to a whole weekly run that is a change."""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import psutil
import pytest
from conftest import _database, a_window
from fakes import github, statuspage, webhook
from fakes.application import SWITCH
from fakes.http import Fault
from world import CANARIES, PLAYBOOK, Moment, Service, World, a_world

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
    from conftest import Database

    from playbooks import Ended

WORK = ("pg_archive", "pg_vacuum")
#: What stops a run before its work.
STOPS = {
    ("ticket", "opening"), ("mode", "opening"), ("application", "opening"), ("state", "opening"), ("state", "work"),
}  # fmt: skip
#: Not asked any more from then on.
UNUSED = {("team", "work"), ("team", "end"), ("mode", "end")}
EVERYTHING = [
    ((service,), moment)
    for service in get_args(Service)
    for moment in ("opening", "work", "end")
    if (service, moment) not in UNUSED
]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    with a_world(database, tmp_path) as made:
        yield made


def comments(world: World) -> list[str]:
    return [each["body"] for said in world.tickets.comments.values() for each in said]


def nothing_is_doubled(world: World, runs: int = 1) -> bool:
    keys = [each["body"].splitlines()[-1] for each in world.tickets.issues]
    return (
        len(keys) == len(set(keys)) <= runs
        and max(len(world.notices), len(world.alerts.silences), len(world.team.events)) <= runs
        and len(comments(world)) == len(set(comments(world)))
    )


def works_again(world: World, *, tickets: int) -> None:
    """The next run ends what is left, and is green; each run has one ticket, and those of red ones are open."""
    ended = world.run()
    assert ended.code == 0, ended.output
    assert world.left() == set()
    assert [each["state"] for each in world.tickets.issues] == ["open"] * (tickets - 1) + ["closed"]
    assert nothing_is_doubled(world, runs=2)


def is_red(world: World, ended: Ended, *, tickets: int = 1) -> None:
    assert ended.code != 0, ended.output
    assert world.record(ended)["status"] != "ok"
    assert [each["state"] for each in world.tickets.issues] == ["open"] * tickets
    assert nothing_is_doubled(world)


@pytest.mark.parametrize(("services", "moment"), [
    (("page", "team", "silence"), "opening"),
    (("state",), "work"),
    *(pytest.param(*each, marks=pytest.mark.long) for each in EVERYTHING if each != (("state",), "work")),
], ids=lambda each: "+".join(each) if isinstance(each, tuple) else each)  # fmt: skip
def test_a_service_that_is_down(world, services: tuple[Service, ...], moment: Literal["opening"] | Moment):
    def fail() -> None:
        for service in services:
            world.fail(service)

    if moment == "opening":
        fail()
    else:
        world.acts[moment] = fail
    ended = world.run()
    world.mend()
    stops = any((service, moment) in STOPS for service in services)
    has_ticket = not (moment == "opening" and {"ticket", "state"} & set(services))
    is_red(world, ended, tickets=int(has_ticket))
    assert [module for module in WORK if module in ended.results] == ([] if stops else list(WORK))
    # What is down cannot be ended, and the change remembers it.
    assert world.left() <= {*services, "change"}
    if world.left():
        assert "change" in world.left()
        works_again(world, tickets=1 + has_ticket)


@pytest.mark.long
def test_an_answer_that_is_lost_doubles_nothing(world):
    for fake, on, times in (
        (world.tickets, "POST .*/issues$", 1), (world.tickets, "POST .*/comments$", 2), (world.tickets, "PATCH", 1),
        (world.page, "POST", 1), (world.page, "PATCH", 1), (world.team, "POST", 1), (world.alerts, "POST", 1),
        (world.alerts, "DELETE", 1), (world.application, f"POST {SWITCH}", 2),
    ):  # fmt: skip
        fake.faults.append(Fault(on, "lost", times=times))
    ended = world.run()
    assert ended.code == 0, ended.output
    assert [fault.times for fake in world.fakes for fault in fake.faults] == [0] * 9
    assert [each["state"] for each in world.tickets.issues] == ["closed"]
    assert len(comments(world)) == 2
    assert (len(world.notices), len(world.team.events), len(world.alerts.silences)) == (1, 1, 1)
    assert nothing_is_doubled(world)
    assert world.left() == set()


def everything(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What a run is made of: also what outlives it, as long as it lives."""
    return [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]


def kill(processes: list[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):  # a worker that was through
            each.kill()
    psutil.wait_procs(processes, timeout=60)


def wait_until(what: Callable[[], object], running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.long
def test_a_second_change_is_refused_and_everything_is_killed(world):
    """Two changes at once; and then not even the process that outlives the run is left of the first."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(120)

    world.acts["work"] = hold
    running = world.project.start(PLAYBOOK)
    wait_until(held.is_set, running)
    (first,) = world.open_changes()
    before = (first.read_bytes(), world.application.until, len(world.tickets.issues), world.active())
    # On the same database the database's lease says it; the change's own is for all others of the environment.
    refused = world.run()
    assert refused.code == 2, refused.output
    words = refused.output[refused.output.index("PLAY RECAP") :]
    assert f"run {first.stem} ({PLAYBOOK}, " in words
    assert "wait for it" in words
    assert (first.read_bytes(), world.application.until, len(world.tickets.issues), world.active()) == before
    kill(everything(running))
    go.set()
    running.communicate(timeout=60)
    assert world.left() == {"mode", "silence", "page", "change"}
    assert world.application.until is not None
    # It is over by itself at the latest then.
    assert world.application.until <= datetime.now(UTC) + timedelta(seconds=14_400)
    works_again(world, tickets=2)
    assert "The run of this change is gone" in comments(world)[0]


@pytest.mark.long
@pytest.mark.parametrize("whom", ["ansible-playbook", "everything"])
def test_a_run_that_is_killed_at_random_is_cleaned_up_by_the_next(world, whom):
    begun = time.monotonic()
    assert world.run().code == 0
    took_s = time.monotonic() - begun
    for _ in range(10):
        known = len(world.tickets.issues)
        killed_at_s = random.uniform(1, took_s)  # noqa: S311 - no secret
        running = world.project.start(PLAYBOOK)
        time.sleep(killed_at_s)
        found = everything(running) if running.poll() is None else []
        kill(found if whom == "everything" else found[-1:])
        psutil.wait_procs(found, timeout=120)
        running.communicate(timeout=120)
        if whom == "ansible-playbook":
            assert world.left() == set(), killed_at_s
        ended = world.run()
        assert ended.code == 0, (killed_at_s, ended.output)
        assert world.left() == set(), killed_at_s
        new = [each["state"] for each in world.tickets.issues[known:]]
        assert new in (["closed"], ["open", "closed"], ["closed", "closed"]), killed_at_s
        keys = [each["body"].splitlines()[-1] for each in world.tickets.issues]
        assert len(keys) == len(set(keys))
        assert all(len(set(map(str, said))) == len(said) for said in world.tickets.comments.values())
        assert len(world.notices) <= len(keys)


@pytest.fixture
def two_hosts(world: World, cluster: Cluster) -> Iterator[World]:
    """The same with a second database, on the same server."""
    with _database(cluster) as other:
        other.run(
            "CREATE TABLE public.notes (id int)",
            "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
        )
        world.project.hosts["db2"] = world.project.hosts["db"] | {"db_login_db": other.name}
        world.databases.append(other)
        yield world


def break_work(database: Database) -> None:
    """Its archive has other columns than what is archived."""
    database.run(
        "CREATE TABLE public.audit_log_archive (id text)", "INSERT INTO public.audit_log VALUES (1, '2020-01-01')"
    )


@pytest.mark.parametrize("broken", [2, pytest.param(1, marks=pytest.mark.long)])
def test_hosts_that_fail_in_the_work(two_hosts, broken):
    world = two_hosts
    for each in world.databases[:broken]:
        break_work(each)
    ended = world.run()
    is_red(world, ended)
    assert world.left() == set()
    assert world.record(ended)["run_id"] in comments(world)[-1]
    failed = {each["host"] for each in ended.results["pg_archive"] if each["state"] == "failed"}
    assert failed == ({"db", "db2"} if broken == 2 else {"db"})
    if broken == 1:
        # The other one's work is done, and what comes after it; what is missing is said.
        assert "db2" in {each["host"] for each in ended.results["pg_vacuum"]}
        items = {each["name"]: each["status"] for each in ended.last("change_check")["checks"]}
        assert items["work"] in ("breach", "unknown")
        assert items["function:db"] == "unknown"
        assert items["function:db2"] == "ok"


def test_an_application_that_breaks_in_the_soak(world):
    world.acts["soak"] = lambda: setattr(world.application, "broken", True)
    ended = world.run()
    is_red(world, ended)
    assert world.left() == set()
    assert set(WORK) <= set(ended.results)
    way = "playbooks/rollback.yml --limit db --tags db -e db_rollback_before="
    words = ended.output[ended.output.index("PLAY RECAP") :]
    assert "It was ended early" in words
    assert way in words
    assert way in comments(world)[-1].replace("\\", "")


def all_text(world: World) -> Iterator[tuple[str, str]]:
    """Whatever a run leaves in files: records, journals, reports, the state store."""
    for folder in (world.project.folder / "runs", world.state):
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_text(errors="replace")


class ProcessLists:
    """What everybody on this machine may read of the processes that a test begins, while it runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> ProcessLists:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for each in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    shown = " ".join(each.cmdline()) + " ".join(each.environ().values())
                    self.found.update(canary for canary in CANARIES if canary in shown)


@pytest.mark.long
@pytest.mark.parametrize("is_refused", [False, True])
def test_no_secret_is_seen_anywhere(world, is_refused):
    if is_refused:
        # Each service repeats what it was asked with, as some do.
        for fake, secrets in ((world.page, [statuspage.TOKEN]), (world.team, [webhook.TOKEN, webhook.PATH])):
            fake.faults.append(Fault(".", "status", 403, body={"message": " ".join(secrets)}, times=1_000_000))
        refused = Fault(".", "status", 403, body={"message": github.TOKEN}, times=1_000_000)
        world.acts["end"] = lambda: world.tickets.faults.append(refused)
    with ProcessLists() as seen:
        ended = world.run("-vvv", "--diff")
    assert (ended.code == 0) is not is_refused, ended.output
    texts = [("output", ended.output), *all_text(world), *(("ticket", each) for each in comments(world))]
    assert [(name, canary) for name, text in texts for canary in CANARIES if canary in text] == []
    assert seen.found == set()


@pytest.mark.long
@pytest.mark.parametrize("what", ["window", "freeze"])
def test_time_that_is_over_in_the_middle(world, what):
    """A window ends, or a freeze begins, while the team is told: nothing more is begun, and all is ended."""
    left_s = 20
    over = datetime.now(UTC) + timedelta(seconds=left_s)
    calendar = a_window(-1, left_s / 3600 if what == "window" else 2)
    if what == "freeze":
        begin, end = (f"{over + timedelta(hours=hours):%Y-%m-%d %H:%M:%S}" for hours in (0, 1))
        calendar["freezes"] = [
            {"id": "visit", "begin": begin, "end": end, "scope": "all", "reason": "a visit", "owner": "operations"}
        ]  # fmt: skip
    world.project.all_vars["maintenance_calendar"] = calendar
    world.team.faults.append(Fault("POST", "slow", wait_s=left_s + 2))
    ended = world.run()
    is_red(world, ended)
    assert [module for module in WORK if module in ended.results] == []
    assert world.left() == set()
    assert "is over, so nothing is opened any more" in ended.output


@pytest.mark.long
@pytest.mark.parametrize("moment", ["work", "end", "soak"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_person_stops(world, moment, number):
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(60)

    world.acts[moment] = hold
    known = world.project.records()
    running = world.project.start(PLAYBOOK)
    wait_until(held.is_set, running)
    running.send_signal(number)
    go.set()
    ended = world.project.ended(running, known)
    is_red(world, ended)
    assert world.left() == set()
    by = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"was stopped by {by}" in comments(world)[-1]


@pytest.mark.long
def test_a_dry_run_of_everything_writes_nothing_anywhere(world):
    ended = world.run("--check", "--diff")
    assert ended.code == 0, ended.output
    assert [line for fake in world.fakes for line in fake.requests if not line.startswith("GET ")] == []
    assert list(world.state.iterdir()) == []
    for plan in ("Way back: ", "Would silence", "Would turn maintenance mode on", "vacuum_analyze public.notes"):
        assert plan in ended.output
    works_again(world, tickets=1)
