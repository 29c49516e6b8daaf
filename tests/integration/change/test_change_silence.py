"""One silence for a change, on a real Alertmanager; on fakes of it and of Grafana with what goes wrong there."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Alertmanager
from changes import item, open_change, options
from conftest import Outcome, run_module, this_run
from fakes.alertmanager import GRAFANA_TOKEN, FakeAlertmanager, FakeGrafana
from fakes.http import Fault
from servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.change.changes import Changes

SERVICE = {"name": "service", "value": "mental_scribe"}
WHO: dict[str, Any] = {"alertmanager_user": "runbook", "alertmanager_password": "c4n4ry"}


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeAlertmanager]:
    with FakeAlertmanager() as made:
        yield made


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """The address of a real one."""
    with running(Alertmanager(tmp_path / "alertmanager")) as started:
        yield started.url


def silence(folder: Path, state: str, url: str, *, check: bool = False, **more: Any) -> Outcome:
    """Silence the service for an hour, unless told otherwise."""
    present = {"until": in_minutes(60), "matchers": [SERVICE], "comment": "Weekly maintenance"}
    common = options(folder, state=state, backend="alertmanager", alertmanager_url=url, timeout_s=5)
    return run_module(
        "change_silence", common | (present if state == "present" else {}) | more, check=check, diff=check
    )  # fmt: skip


def shown(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/silences", timeout=20) as answer:  # noqa: S310 - http, from here
        found: list[dict[str, Any]] = json.load(answer)
    return [each for each in found if each["status"]["state"] != "expired"]


def test_a_real_alertmanager_is_silenced_once_and_for_as_long_as_the_change_lasts(tmp_path, changes, alertmanager):
    planned = silence(tmp_path, "present", alertmanager, check=True)
    assert planned.result["changed"], planned.result
    assert 'Would silence alerts with service="mental_scribe"' in planned.result["diff"]["prepared"]
    assert shown(alertmanager) == []
    until = in_minutes(60)
    made = silence(tmp_path, "present", alertmanager, until=until)
    assert (made.result["status"], made.result["changed"]) == ("ok", True), made.result
    (found,) = shown(alertmanager)
    assert found["comment"] == f"runbook:{this_run().id}#the_item Weekly maintenance"
    assert datetime.fromisoformat(found["endsAt"]) == datetime.fromisoformat(until)
    assert item(changes) == ("ok", made.result["msg"], f"silence {found['id']}")
    assert changes.current().opened["silence"]["until"] == until
    again = silence(tmp_path, "present", alertmanager, until=until)
    assert (again.result["status"], again.result["changed"]) == ("ok", False), again.result
    # Longer, and of more: still one.
    longer = silence(
        tmp_path, "present", alertmanager, until=in_minutes(90),
        matchers=[SERVICE, {"name": "alertname", "value": "Postgres.*", "is_regex": True}],
    )  # fmt: skip
    assert (longer.result["status"], longer.result["changed"]) == ("ok", True), longer.result
    (found,) = shown(alertmanager)
    assert (found["id"], len(found["matchers"])) == (longer.result["silence_id"], 2)
    assert silence(tmp_path, "absent", alertmanager, check=True).result["changed"]
    assert len(shown(alertmanager)) == 1
    gone = silence(tmp_path, "absent", alertmanager)
    assert (gone.result["status"], gone.result["changed"]) == ("ok", True), gone.result
    assert shown(alertmanager) == []
    assert "silence" not in changes.current().opened
    assert not silence(tmp_path, "absent", alertmanager).result["changed"]


def test_grafana_is_silenced_in_the_same_way(tmp_path, changes):
    with FakeGrafana() as grafana:
        where: dict[str, Any] = {
            "backend": "grafana", "alertmanager_url": None, "grafana_url": f"{grafana.url}/",
            "grafana_token": GRAFANA_TOKEN,
        }  # fmt: skip
        assert silence(tmp_path, "present", "", **where).result["changed"]
        assert len(grafana.open) == 1
        refused = silence(tmp_path, "absent", "", **where | {"grafana_token": "glsa_wr0ng"})
        assert refused.failed
        assert "check grafana_token." in refused.result["msg"]
        assert "wr0ng" not in json.dumps(refused.result["msg"]) + json.dumps(changes.current().body())
        assert "silence" in changes.current().opened
        assert silence(tmp_path, "absent", "", **where).result["changed"]
        assert grafana.open == []


def test_an_alertmanager_that_asks_for_a_password_is_silenced(tmp_path, changes, fake):
    fake.asks = "Basic cnVuYm9vazpjNG40cnk="
    denied = silence(tmp_path, "present", fake.url, **WHO | {"alertmanager_password": "c4n4ry-0000"})
    assert (denied.failed, fake.silences) == (True, {})
    said = "check alertmanager_token, or alertmanager_user and alertmanager_password."
    assert denied.result["msg"].endswith(said), denied.result["msg"]
    planned = silence(tmp_path, "present", fake.url, check=True, **WHO)
    assert (planned.result["changed"], fake.silences) == (True, {})
    made = silence(tmp_path, "present", fake.url, **WHO)
    assert (made.result["status"], len(fake.open)) == ("ok", 1), made.result
    assert silence(tmp_path, "absent", fake.url, **WHO).result["changed"]
    assert fake.open == []
    told = [each.result | {"stderr": each.stderr} for each in (denied, planned, made)]
    assert "c4n4ry" not in json.dumps(told) + json.dumps(changes.current().body())


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize("kind", ["lost", "early"])
def test_a_silence_whose_answer_was_lost_is_not_made_again(tmp_path, fake, kind):
    fake.faults = [Fault("POST", kind)]
    made = silence(tmp_path, "present", fake.url)
    assert made.result["status"] == "ok", made.result
    assert len(fake.silences) == 1
    assert not silence(tmp_path, "present", fake.url, until=fake.open[0]["endsAt"]).result["changed"]
    assert len(fake.silences) == 1


def test_one_that_is_not_active_is_unknown(tmp_path, changes, fake):
    fake.behind_s = 3600
    made = silence(tmp_path, "present", fake.url)
    assert (made.failed, made.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
    assert "is pending; see that the clocks" in made.result["msg"]


def test_a_service_that_refuses_stops_the_work_only_where_it_blocks(tmp_path, changes, fake):
    fake.faults = [Fault("GET", "status", 400, {"Content-Type": "text/plain"}, b"bad", times=9)]
    refused = silence(tmp_path, "present", fake.url, blocks=False)
    assert (refused.failed, refused.result["status"], item(changes)[0]) == (False, "unknown", "breach")
    assert silence(tmp_path, "present", fake.url).failed
    # Nothing was asked for, so nothing has to be ended.
    assert changes.current().opened == {}


@pytest.mark.usefixtures("changes")
def test_the_silences_of_others_stay(tmp_path, fake):
    other = {"matchers": [{"name": "a", "value": "b", "isRegex": False}], "startsAt": in_minutes(-1),
             "endsAt": in_minutes(60), "createdBy": "somebody"}  # fmt: skip
    for number, comment in enumerate((f"runbook:{this_run().id}-2 other", "", f"see runbook:{this_run().id}")):
        fake.silences[str(number)] = other | {"id": str(number), "comment": comment}
    assert not silence(tmp_path, "absent", fake.url).result["changed"]
    assert silence(tmp_path, "present", fake.url).result["changed"]
    assert silence(tmp_path, "absent", fake.url).result["changed"]
    assert len(fake.open) == 3


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"matchers": []}, "matchers: none of them is a label with a plain value"),
        ({"matchers": [{"name": "alertname", "value": ".+", "is_regex": True}]}, "matchers: none of them is a label"),
        ({"matchers": [SERVICE | {"is_equal": False}]}, "matchers: none of them is a label"),
        ({"until": "2020-01-01T00:00:00Z"}, "is over, so nothing is opened any more"),
        ({"alertmanager_url": "alertmanager:9093"}, "alertmanager_url: 'alertmanager:9093' is no address"),
        ({"alertmanager_url": None}, "alertmanager_url"),
        ({"grafana_token": "x"}, "grafana_token"),
        ({"alertmanager_url": "http://am.example.com", "alertmanager_token": "x"}, "unencrypted; use https"),
        (
            {"alertmanager_url": "http://am.example.com", **WHO},
            "alertmanager_url: it would send alertmanager_password unencrypted; use https.",
        ),
        (WHO | {"alertmanager_token": "x"}, "alertmanager_user: alertmanager_token is given too"),
        (WHO | {"alertmanager_password": ""}, "alertmanager_password: it is empty, and alertmanager_user is given"),
        (WHO | {"alertmanager_user": "a:b"}, "alertmanager_user: 'a:b' has a colon"),
        (WHO | {"backend": "none"}, "alertmanager_password: it is set, and backend none has no use for it"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path, given, says):
    refused = silence(tmp_path, "present", "http://127.0.0.1:1", **given)
    assert refused.failed
    assert says in refused.result["msg"]


def test_an_inventory_that_silences_nothing_is_not_unknown(tmp_path, changes):
    for state in ("present", "absent"):
        matchers: list[str] | None = [] if state == "present" else None
        skipped = silence(tmp_path, state, "", backend="none", alertmanager_url=None, matchers=matchers)
        assert (skipped.result["status"], item(changes)[0]) == ("ok", "ok")
        assert skipped.result["proof"] == "skipped by the inventory"


def test_a_silence_is_removed_only_where_it_was_made(tmp_path, changes, fake):
    assert silence(tmp_path, "present", fake.url).result["changed"]
    noted = changes.current().opened["silence"]
    with FakeAlertmanager() as other:
        for state, given in (
            ("absent", {"alertmanager_url": other.url}), ("present", {"alertmanager_url": other.url}),
            ("absent", {"backend": "none", "alertmanager_url": None}),
        ):  # fmt: skip
            refused = silence(tmp_path, state, "", **given)
            assert refused.failed, refused.result
            assert f"opened its silence at alertmanager {fake.url}, and is asked for it at" in refused.result["msg"]
        assert other.silences == {}
    assert changes.current().opened["silence"] == noted
    assert silence(tmp_path, "absent", fake.url).result["changed"]
    assert fake.open == []


def test_each_item_has_its_silence_and_the_end_removes_all(tmp_path, changes, fake):
    other: dict[str, Any] = {"item": "other_item", "matchers": [SERVICE | {"value": "files"}], "until": in_minutes(30)}
    assert silence(tmp_path, "present", fake.url).result["changed"]
    last = changes.current().opened["silence"]["until"]
    assert silence(tmp_path, "present", fake.url, **other).result["changed"]
    assert sorted(each["matchers"][0]["value"] for each in fake.open) == ["files", "mental_scribe"]
    assert changes.current().opened["silence"]["until"] == last
    assert not silence(tmp_path, "present", fake.url, **other).result["changed"]
    gone = silence(tmp_path, "absent", fake.url, item="end")
    assert "Removed 2 of this change's silences" in gone.result["msg"]
    assert fake.open == []
    assert "silence" not in changes.current().opened
