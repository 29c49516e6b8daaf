"""Maintenance mode on a real nginx, a real table, and a fake of Vercel; seen from outside, and over by itself."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ansible.module_utils.runbook.drivers.change.maintenance_mode import FlagFolder
from ansible.module_utils.runbook.drivers.sandbox.services import Nginx
from ansible.module_utils.runbook.rules.change.maintenance_mode import Flags
from ansible.module_utils.runbook.rules.status import Status
from changes import item, open_change, options
from conftest import ROOT, Outcome, free_port, run_module, this_run
from fakes.http import Asked, FakeService, Fault, Reply
from fakes.vercel import CONFIG, TEAM, TOKEN, FakeVercel
from servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.change.changes import Changes

TEXT = "back soon"
SECRET = "wh_c4n4ry"


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


class Page(FakeService):
    """An application that answers as it is told to; and a webhook."""

    service: ClassVar[str] = "page"

    def __init__(self) -> None:
        super().__init__()
        self.reply = Reply(200, b"Welcome")
        self.told: list[Any] = []

    def answer(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            self.told.append(asked.body)
            return Reply(204)
        return self.reply


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as made:
        yield made


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    folder = tmp_path / "flags"
    folder.mkdir()
    return folder


def switch(folder: Path, state: str, *, check: bool = False, **more: Any) -> Outcome:
    """Switch the mode, on for an hour unless told otherwise."""
    common = options(folder, state=state, probe_wait_s=5, **({"until": in_minutes(60)} if state == "on" else {}))
    return run_module("maintenance_mode", common | more, check=check, diff=check)


# --- nginx ------------------------------------------------------------------------------------------------------------


def get(url: str, method: str = "GET") -> tuple[int, str | None, str]:
    """Status, Retry-After and page."""
    try:
        asked = urllib.request.Request(url, method=method)  # noqa: S310 - http, from this file
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 - the same
            return answer.status, answer.headers["Retry-After"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Retry-After"], error.read().decode()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A server with the configuration that docs/howto ships."""
    with running(Nginx(tmp_path_factory.mktemp("nginx"), shipped=ROOT / "docs" / "howto" / "nginx")) as started:
        yield started


def test_nginx_shows_the_mode_and_a_second_run_changes_nothing(tmp_path, changes, nginx):
    flags = nginx.flags
    where: dict[str, Any] = {
        "backend": "nginx",
        "nginx_flag_dir": str(flags),
        "probe_url": f"{nginx.url}/",
        "probe_text": TEXT,
    }
    until = in_minutes(60)
    planned = switch(tmp_path, "on", check=True, until=until, **where)
    assert planned.result["changed"]
    assert "Would turn maintenance mode on until" in planned.result["diff"]["prepared"]
    assert list(flags.iterdir()) == []
    on = switch(tmp_path, "on", until=until, **where)
    assert (on.result["status"], on.result["changed"]) == ("ok", True), on.result
    assert item(changes)[0] == "ok"
    assert item(changes)[2] == f"{nginx.url}/ 503, Retry-After"
    noted = {"backend": "nginx", "where": str(flags), "until": until}
    assert changes.current().opened["mode"] == noted
    for method in ("GET", "POST"):
        status, retry_after, text = get(f"{nginx.url}/any/page", method)
        assert (status, retry_after) == (503, "120")
        assert TEXT in text
    assert get(f"{nginx.url}/healthz") == (200, None, "ok")
    again = switch(tmp_path, "on", until=until, **where)
    assert (again.result["status"], again.result["changed"]) == ("ok", False), again.result
    off = switch(tmp_path, "off", **where)
    assert (off.result["status"], off.result["changed"], off.result["until"]) == ("ok", True, None), off.result
    assert get(f"{nginx.url}/")[0] == 200
    assert "mode" not in changes.current().opened
    again = switch(tmp_path, "off", **where)
    assert (again.result["status"], again.result["changed"]) == ("ok", False), again.result


def test_nginx_ends_the_mode_by_itself(nginx):
    """Nothing of ours runs any more, as after a kill of everything."""
    now, flags = int(time.time()), nginx.flags
    mode = FlagFolder(flags)
    mode.write(datetime.fromtimestamp(now + 3600, UTC))
    assert get(nginx.url)[0] == 503
    mode.write(None)
    assert get(nginx.url)[0] == 200
    # The files of a mode that was over a second ago lie there still.
    for name in Flags.lasting(now - 5000, now - 1).names:
        (flags / name).touch()
    assert get(nginx.url)[0] == 200
    mode.write(datetime.fromtimestamp(time.time() + 2, UTC).replace(microsecond=0))
    until = time.monotonic() + 60
    while get(nginx.url)[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert list(flags.iterdir())


# --- two changes, and who else turns it on ---------------------------------------------------------------------------


@pytest.mark.usefixtures("changes")
def test_the_first_of_two_changes_to_end_leaves_the_mode_to_the_other(tmp_path, flags):
    where: dict[str, Any] = {"backend": "nginx", "nginx_flag_dir": str(flags)}
    later = in_minutes(90)
    other = open_change(tmp_path, replace(this_run(), id="another-run"))
    other.opened("mode", {"backend": "nginx", "where": str(flags), "until": later})
    on = switch(tmp_path, "on", **where)
    assert on.result["until"] == later
    assert "Nobody looked from outside" in on.result["msg"]
    assert (on.result["status"], on.failed) == ("unknown", False)
    off = switch(tmp_path, "off", **where)
    assert (off.result["until"], off.result["changed"]) == (later, False)
    assert FlagFolder(flags).stands(datetime.fromisoformat(later))
    other.opened("mode", None)
    # What this change gave back already is not its own any more.
    assert "has turned no maintenance mode on" in switch(tmp_path, "off", **where).result["msg"]
    assert FlagFolder(flags).stands(datetime.fromisoformat(later))


def test_a_mode_is_turned_off_only_where_it_was_turned_on(tmp_path, changes, flags):
    other = tmp_path / "other"
    other.mkdir()
    where: dict[str, Any] = {"backend": "nginx", "nginx_flag_dir": str(flags)}
    assert switch(tmp_path, "on", **where).result["changed"]
    noted = changes.current().opened["mode"]
    elsewhere: dict[str, Any] = {"backend": "nginx", "nginx_flag_dir": str(other)}
    for state, given in (("off", elsewhere), ("on", elsewhere), ("off", {"backend": "none"})):
        refused = switch(tmp_path, state, **given)
        assert refused.failed, refused.result
        assert f"this change opened its mode at nginx {flags}, and is asked for it at" in refused.result["msg"]
        assert list(other.iterdir()) == []
        assert changes.current().opened["mode"] == noted
    assert switch(tmp_path, "off", **where).result["changed"]
    assert list(flags.iterdir()) == []


def test_check_mode_leaves_the_mode_of_a_person_alone_as_the_run_does(tmp_path, changes, flags):
    where: dict[str, Any] = {"backend": "nginx", "nginx_flag_dir": str(flags)}
    FlagFolder(flags).write(datetime.fromisoformat(in_minutes(60)))
    for check in (True, False):
        off = switch(tmp_path, "off", check=check, **where)
        assert "This change has turned no maintenance mode on." in off.result["msg"]
        assert off.result["changed"] is False
    assert list(flags.iterdir())
    assert switch(tmp_path, "on", **where).result["status"] == "unknown"
    planned = switch(tmp_path, "off", check=True, **where)
    assert (planned.result["msg"], planned.result["changed"]) == ("Would turn maintenance mode off.", True)
    assert "mode" in changes.current().opened


# --- Vercel -----------------------------------------------------------------------------------------------------------


def vercel(api: FakeVercel, **more: Any) -> dict[str, Any]:
    return {
        "backend": "vercel", "vercel_config_id": CONFIG, "vercel_token": TOKEN, "vercel_team_id": TEAM,
        "vercel_url": api.url,
    } | more  # fmt: skip


@pytest.mark.parametrize("path", ["global-config", "edge-config"])
def test_vercel_keeps_the_flag(tmp_path, changes, path):
    with FakeVercel(path) as api:
        where = vercel(api, vercel_path=path)
        until = in_minutes(60)
        assert switch(tmp_path, "on", check=True, until=until, **where).result["changed"]
        assert api.items == {}
        # The answer is lost, and the same item is written once more.
        api.faults = [Fault("PATCH", "lost"), Fault("GET", "status", 429, {"Retry-After": "0"})]
        on = switch(tmp_path, "on", until=until, **where)
        assert on.result["changed"], on.result
        assert api.items == {"maintenance": {"on": True, "until": until}}
        assert not switch(tmp_path, "on", until=until, **where).result["changed"]
        assert switch(tmp_path, "off", **where).result["changed"]
        assert api.items == {"maintenance": {"on": False, "until": None}}
        assert "mode" not in changes.current().opened


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vercel_config_id": "ecfg_other"}, "vercel_config_id: Vercel knows no ecfg_other here"),
        ({"vercel_path": "edge-config"}, "check vercel_config_id and vercel_team_id"),
        ({"vercel_team_id": ""}, "check the token's rights and vercel_team_id"),
        ({"vercel_token": "vc_wr0ng"}, "check the token's rights"),
    ],
)  # fmt: skip
def test_vercel_says_what_is_wrong_before_anything_is_written(tmp_path, changes, options, says):
    with FakeVercel() as api:
        refused = switch(tmp_path, "on", **vercel(api, **options))
        assert refused.failed
        assert says in refused.result["msg"]
        assert api.items == {}
        said = json.dumps(refused.result) + refused.stderr + json.dumps(changes.current().body())
        assert TOKEN not in said
        assert "vc_wr0ng" not in said


# --- SQL --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("changes")
def test_a_row_of_the_application_keeps_the_flag(tmp_path, database):
    database.run(
        'CREATE TABLE public."odd flag" ("the end" timestamptz)', 'INSERT INTO public."odd flag" VALUES (NULL)'
    )
    where: dict[str, Any] = database.login | {"backend": "sql", "sql_table": "public.odd flag", "sql_column": "the end"}
    reads = 'SELECT coalesce("the end" > now(), false) FROM public."odd flag"'
    until = in_minutes(60)
    assert switch(tmp_path, "on", check=True, until=until, **where).result["changed"]
    assert database.one(reads) is False
    assert switch(tmp_path, "on", until=until, **where).result["changed"]
    assert database.one('SELECT "the end" FROM public."odd flag"') == datetime.fromisoformat(until)
    assert not switch(tmp_path, "on", until=until, **where).result["changed"]
    assert switch(tmp_path, "off", **where).result["changed"]
    assert database.one(reads) is False
    assert not switch(tmp_path, "off", **where).result["changed"]


@pytest.mark.parametrize(
    ("rows", "kind", "says"),
    [("", "timestamptz", "has no row"), ("(NULL), (NULL)", "timestamptz", "more than one row"),
     ("(now())", "timestamp", "is of type timestamp without time zone"), (None, "", "does not exist")],
)  # fmt: skip
def test_a_table_that_is_no_flag_is_refused(tmp_path, changes, database, rows, kind, says):
    if rows is not None:
        database.run(f"CREATE TABLE public.flag (until {kind})")
    if rows:
        database.run(f"INSERT INTO public.flag VALUES {rows}")
    before = database.one("SELECT txid_current()")
    refused = switch(tmp_path, "on", **database.login, backend="sql", sql_table="public.flag")
    assert refused.failed
    assert says in refused.result["msg"]
    assert database.one("SELECT txid_current()") == before + 1
    assert item(changes)[0] == "breach"


def test_a_database_that_did_not_pass_preflight_is_refused(database, tmp_path):
    where: dict[str, Any] = database.login | {"backend": "sql", "sql_table": "public.flag"}
    refused = run_module("maintenance_mode", options(tmp_path, state="off", **where), permitted=False)
    assert "has not passed preflight" in refused.result["msg"]


# --- the webhook, and what is seen ------------------------------------------------------------------------------------


def test_a_webhook_is_told_and_its_address_is_a_secret(tmp_path, changes, page):
    where: dict[str, Any] = {
        "backend": "webhook",
        "webhook_url": f"{page.url}/{SECRET}",
        "webhook_token": f"{SECRET}-token",
    }
    until = in_minutes(60)
    assert not switch(tmp_path, "on", until=until, **where).failed
    assert not switch(tmp_path, "off", **where).failed
    assert page.told == [
        {"event": "maintenance_mode", "on": True, "until": until},
        {"event": "maintenance_mode", "on": False, "until": None},
    ]
    page.faults = [Fault("POST", "status", 400, body={"error": f"no {SECRET}-token for {SECRET}"})]
    refused = switch(tmp_path, "on", **where)
    assert refused.failed
    assert SECRET not in json.dumps(refused.result["msg"]) + refused.stderr
    assert SECRET not in json.dumps(changes.current().body())


def test_what_a_page_shows_counts(tmp_path, changes, flags, page):
    where: dict[str, Any] = {"backend": "nginx", "nginx_flag_dir": str(flags), "probe_wait_s": 1, "probe_text": TEXT}
    wrong = switch(tmp_path, "on", probe_url=page.url, **where)
    assert wrong.failed
    assert f"But {page.url} answers with 200 instead of 503" in wrong.result["msg"]
    assert (wrong.result["status"], wrong.result["changed"]) == ("breach", True)
    assert item(changes)[0] == "breach"
    # It is noted all the same: whoever comes after turns it off.
    assert "mode" in changes.current().opened
    goes_on = switch(tmp_path, "on", probe_url=page.url, blocks=False, **where)
    assert (goes_on.failed, goes_on.result["status"]) == (False, "unknown")
    silent = switch(tmp_path, "on", probe_url=f"http://127.0.0.1:{free_port()}/", **where)
    assert (silent.failed, silent.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
    assert "Nobody could see it from outside" in silent.result["msg"]


def test_an_inventory_without_a_mode_is_not_unknown(tmp_path, changes):
    skipped = switch(tmp_path, "on", backend="none")
    assert (skipped.failed, skipped.result["status"], skipped.result["changed"]) == (False, "ok", False)
    assert item(changes)[0] == "ok"
    assert changes.current().opened == {}


def test_an_emergency_lets_users_in_when_the_fix_holds(tmp_path, changes, page):
    where: dict[str, Any] = {"backend": "webhook", "webhook_url": f"{page.url}/{SECRET}"}
    changes.update(changes.id, lambda change: replace(change, needs=("resolution:db",)))
    assert not switch(tmp_path, "kept_on", until=in_minutes(60), **where).failed
    for check in (True, False):
        refused = switch(tmp_path, "off", check=check, **where)
        assert refused.failed
        assert "that the fix holds on db, so maintenance mode stays on" in refused.result["msg"]
    assert len(page.told) == 1
    changes.answer("resolution:db", Status.OK, "It holds.")
    assert not switch(tmp_path, "off", **where).failed
    assert page.told[-1]["on"] is False


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"backend": "nginx"}, "nginx_flag_dir"),
        ({"backend": "nginx", "nginx_flag_dir": "/nowhere"}, "nginx_flag_dir: /nowhere: No such file or directory"),
        ({"backend": "none", "vercel_token": "vc_wr0ng"}, "vercel_token"),
        ({"backend": "none", "until": "2020-01-01T00:00:00Z"}, "is over, so nothing is opened any more"),
        ({"backend": "none", "until": "2020-01-01T00:00:00"}, "does not say in which time zone"),
        ({"backend": "none", "probe_url": "app.example.com"}, "probe_url: 'app.example.com' is no address"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_sentence(tmp_path, given, says):
    refused = switch(tmp_path, "on", **given)
    assert refused.failed
    assert says in refused.result["msg"]
