"""Modules of a change that are killed while a service has not answered: nothing is sent twice, nothing stays on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from changes import item, open_change, options
from conftest import run_module
from fakes.alertmanager import FakeAlertmanager
from fakes.vercel import CONFIG, TEAM, TOKEN, FakeVercel
from fakes.webhook import FakeReceiver
from killing import kill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.change.changes import Changes
    from fakes.http import FakeService

    Killed = Callable[[str, dict[str, Any], FakeService, str], None]


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Killed:
    return partial(kill, monkeypatch)


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")


def test_a_message_is_not_sent_again(tmp_path, changes, killed):
    with FakeReceiver() as chat:
        given = options(tmp_path, backend="slack", slack_url=f"{chat.url}/services/c4n4ry1", title="It begins")
        killed("change_notice", given, chat, "POST")
        assert item(changes)[0] == "unknown"
        again = run_module("change_notice", given)
        assert (again.failed, again.result["status"]) == (True, "unknown"), again.result
        assert len(chat.requests) == 1


def test_a_mode_is_turned_off_by_whoever_comes(tmp_path, changes, killed):
    with FakeVercel() as api:
        given = options(
            tmp_path, backend="vercel", vercel_config_id=CONFIG, vercel_token=TOKEN, vercel_team_id=TEAM,
            vercel_url=api.url,
        )  # fmt: skip
        killed("maintenance_mode", given | {"state": "on", "until": in_an_hour()}, api, "PATCH")
        assert changes.current().opened["mode"]["where"] == f"{CONFIG}/maintenance"
        assert api.items["maintenance"]["on"]
        off = run_module("maintenance_mode", given | {"state": "off"})
        assert off.result["changed"], off.result
        assert not api.items["maintenance"]["on"]
        assert changes.current().opened == {}


def test_a_silence_is_found_again_and_removed(tmp_path, changes, killed):
    with FakeAlertmanager() as fake:
        given = options(tmp_path, backend="alertmanager", alertmanager_url=fake.url)
        matchers = [{"name": "service", "value": "mental_scribe"}]
        present = given | {"state": "present", "until": in_an_hour(), "matchers": matchers}
        killed("change_silence", present, fake, "POST")
        assert "silence" in changes.current().opened
        assert not run_module("change_silence", present).result["changed"]
        assert len(fake.silences) == 1
        assert run_module("change_silence", given | {"state": "absent"}).result["changed"]
        assert (fake.open, changes.current().opened) == ([], {})
