"""Whether a message that failed may have arrived."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.drivers.change.notices import Hook
from ansible.module_utils.runbook.drivers.http import api_client
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.notice import Notice
from ansible.module_utils.runbook.rules.status import Status
from conftest import free_port


def test_a_message_for_which_no_connection_came_about_was_not_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api_client, "_SILENCE_S", 0)
    url = f"http://127.0.0.1:{free_port()}/services/T0C4N4RY1"
    api = ApiClient(service="Slack", base_url=url, headers={}, secrets={"slack_url": url}, read_only=False)
    with pytest.raises(RunbookError, match="It was not sent") as error:
        Hook(api, Notice.slack).send(Notice.of("key", "It begins", ""))
    assert error.value.status is Status.BREACH
    assert "C4N4RY" not in error.value.message
