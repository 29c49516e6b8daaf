"""How quantities are read where services are silent or slow."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.capacity.quantity import Quantity
from ansible.module_utils.runbook.rules.status import Status
from conftest import ROOT

NOW = datetime(2026, 11, 29, tzinfo=UTC)
VIEWS = Quantity("views", "prometheus", "views", "level", options={"query": "views"})


@pytest.fixture(scope="module")
def module() -> Any:
    spec = importlib.util.spec_from_file_location("capacity_info", ROOT / "library/capacity_info.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def reader(module: Any, **params: Any) -> Any:
    given = {"prometheus_url": "http://127.0.0.1:9", "prometheus_token": None, "prometheus_ca_cert": None,
             "timeout_s": 1, "deadline_s": 60} | params  # fmt: skip
    return module.Reader(SimpleNamespace(params=given, progress=None), ExitStack(), NOW)


def test_a_service_that_gave_no_answer_is_asked_once(module, monkeypatch):
    asked = []

    def nobody(*_given: Any, **_options: Any) -> None:
        asked.append(1)
        raise RunbookError("it did not answer", status=Status.UNKNOWN, code=module.prometheus.SILENT)

    monkeypatch.setattr(module.sources, "over_time", nobody)
    made = reader(module)
    for _ in range(3):
        with pytest.raises(RunbookError, match="did not answer"):
            made.read(VIEWS)
    assert len(asked) == 1


def test_a_query_that_was_refused_is_no_silence(module, monkeypatch):
    answers = iter([RunbookError("400", status=Status.UNKNOWN), None])

    def once(*_given: Any, **_options: Any) -> list[list[tuple[datetime, float]]]:
        error = next(answers)
        if error:
            raise error
        return [[(NOW, 5.0)]]

    monkeypatch.setattr(module.sources, "over_time", once)
    made = reader(module)
    with pytest.raises(RunbookError, match="400"):
        made.read(VIEWS)
    assert made.read(VIEWS).days == {NOW.date(): 5.0}


def test_what_has_no_time_left_is_unknown(module):
    with pytest.raises(RunbookError, match="of deadline_s") as raised:
        reader(module, deadline_s=0).read(VIEWS)
    assert raised.value.status is Status.UNKNOWN
