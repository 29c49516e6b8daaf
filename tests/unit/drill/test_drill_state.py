"""What the acts of a drill leave for one another, and the document that is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import documents
from ansible.module_utils.runbook.rules.drill.figures import Measured
from ansible.module_utils.runbook.rules.drill.points import Candidate, Choice, Problem
from ansible.module_utils.runbook.rules.drill.state import (
    Chosen,
    Contents,
    Destination,
    Live,
    Primary,
    State,
    Survey,
    Unusable,
)
from ansible.module_utils.runbook.rules.status import Check
from drill_samples import START, state

LATER = START + timedelta(seconds=52)
WHOLE = state(
    injected="flipped_byte", live=Live("4711", ("a.b.c int",), 8_192, 0.25), primary=Primary(5_433, "/usr/bin"),
    contents=Contents("dumped-hash64-sum", {"public.a": (2, "7"), "public.b": (None, "it cannot be read")}),
    mistake_at=START, outage_at=START, is_replica=True, survey=Survey(True, "", 2.5, (Unusable("b1", "torn", ("x",)),)),
    failed={"dump/b2": Problem("torn", ("contents",))}, destination=Destination("app", 5_434, "4712"),
    chosen=Chosen("pitr", "b3", START, (Unusable("b2", "torn."),), 3.5, None, START),
    checks=(Check.ok("ledger", "fine"),), measured=Measured(rpo_s=0.5, database_bytes=8_192),
    files={"asked": True, "msg": "fine", "rows": 3}, service_at=LATER, failure="it broke",
    tear_down=Check.ok("tear_down", "Removed nothing."),
).with_phase("restore", START, LATER, msg="pitr b3.")  # fmt: skip


@pytest.mark.parametrize("known", [state(), WHOLE], ids=["begun", "whole"])
def test_a_state_is_read_as_it_was_written(known: State):
    assert State.from_json(known.to_json(), where="drill.json") == known


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # As the version before wrote it.
        ({"version": None}, "another version"),
        ({"version": 2}, "another version"),
        ({"drill_id": None}, "it.drill_id is NoneType, not str"),
        ({"started_at": "2026-03-01T02:00:00"}, "not a time with its zone"),
        ({"objectives": {"rto_s": 1}}, "it.objectives lacks rpo_s"),
        ({"checks": [{"name": "x", "status": 1, "msg": ""}]}, r"it.checks\[0\].status is 1, which"),
        ({"is_replica": "yes"}, "it.is_replica is str, not bool"),
        ({"failed": {"dump/b2": 1}}, "it.failed.dump/b2 is no object"),
    ],
)
def test_a_state_of_another_shape_is_refused_in_one_sentence(change, says):
    text = json.dumps(json.loads(WHOLE.to_json()) | change)
    with pytest.raises(RunbookError, match=f"state_dir: drill.json cannot be read: .*{says}.* remove the file"):
        State.from_json(text, where="drill.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"drill_id": '])
def test_a_damaged_state_is_refused(text: str):
    with pytest.raises(RunbookError, match="it is damaged"):
        State.from_json(text, where="drill.json")


def test_a_moment_is_named_as_the_target_only_where_the_archive_does_not_lead_there_by_itself():
    for is_cut, before, named in ((False, None, None), (True, None, START), (False, START, START)):
        bad = Candidate("dump", "b2", LATER, problem="torn", codes=("x",))
        choice = Choice(Candidate("pitr", "b1", START, is_cut=is_cut), (bad,))
        chosen = Chosen.of(choice, before=before, at=LATER)
        assert (chosen.target_time, chosen.costs_s, chosen.attempt) == (named, 52.0, "pitr/b1")
        assert chosen.skipped == (Unusable("b2", "torn", ("x",)),)


def made(known: State, *, backup_interval_s: float | None = None, archive_timeout_s: float = 60) -> dict[str, Any]:
    return documents.make(
        known, LATER, backup_interval_s=backup_interval_s, archive_timeout_s=archive_timeout_s, production_bytes=None
    )


def test_a_document_tells_what_was_restored_or_what_was_tried():
    assert WHOLE.chosen is not None
    green = replace(WHOLE, failure="", injected=None, chosen=replace(WHOLE.chosen, skipped=()))
    told = made(green)
    assert (told["status"], told["measured"]["rto_s"], told["recovery"]["backup_id"]) == ("ok", 52.0, "b3")
    red = made(replace(green, service_at=None))
    assert (red["status"], red["measured"]["rpo_s"]) == ("unknown", None)
    assert red["recovery"]["skipped"] == [{"backup_id": "b1", "reason": "torn", "codes": ("x",)}]
    # What else makes a drill red.
    for known, name in (
        (WHOLE, "backups"),
        (replace(green, failure="it broke"), "recovery"),
        (replace(green, tear_down=None), "tear_down"),
        (replace(green, survey=Survey(gap="The WAL is broken.")), "archive"),
    ):
        assert name in [each["name"] for each in made(known)["checks"] if each["status"] != "ok"]


def test_what_can_be_promised_counts_dump_archiver_and_an_archive_that_waits_for_full_segments():
    dumps = made(WHOLE, backup_interval_s=86_400, archive_timeout_s=0)["attainable"]
    assert (dumps["way"], dumps["rpo_s"]) == ("dump", 86_402.5)
    assert made(WHOLE)["attainable"]["rpo_s"] == 60.25
    assert "no bound" in made(WHOLE, archive_timeout_s=0)["attainable"]["msg"]
    nothing = replace(WHOLE, survey=Survey(archived=False))
    assert made(nothing, backup_interval_s=86_400)["attainable"]["way"] is None
