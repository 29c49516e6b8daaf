"""The words for a result, the worst of several, and how a module ends with them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.module import Context
from ansible.module_utils.runbook.rules.run import Run
from ansible.module_utils.runbook.rules.status import Check, Status, sentence, worst
from ansible.module_utils.runbook.rules.text import outgoing

OK, BREACH, UNKNOWN = Status.OK, Status.BREACH, Status.UNKNOWN


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], UNKNOWN),
        ([OK], OK),
        ([OK, UNKNOWN], UNKNOWN),
        ([UNKNOWN, BREACH, OK], BREACH),
    ],
)
def test_a_breach_outweighs_what_is_unknown_and_that_what_is_ok(found: list[Status], expected: Status) -> None:
    assert worst(found) is expected
    assert worst(iter(found)) is expected


def test_nothing_on_either_side_is_ok() -> None:
    assert Status.of() is OK
    assert Status.of(breach="", unknown=0) is OK
    assert Status.of(breach=1, unknown=1) is BREACH


def test_a_sentence_begins_with_the_worst() -> None:
    checks = [Check("a", UNKNOWN, "No right."), Check("b", OK, "Fine."), Check("c", BREACH, "Gone.")]
    assert sentence("Bucket", checks) == "Bucket: 2 of 3 checks are not ok. c (breach): Gone. a (unknown): No right."
    assert sentence("Bucket", []) == "Bucket: nothing was checked."


def test_a_status_leaves_a_module_as_plain_text() -> None:
    result = outgoing({"status": UNKNOWN, "checks": [Check("a", BREACH, "Gone.", "public.t").result()]})
    assert type(result["status"]) is str
    assert json.loads(json.dumps(result)) == {
        "status": "unknown",
        "checks": [{"name": "a", "status": "breach", "msg": "Gone.", "subject": "public.t"}],
    }


@pytest.fixture
def context() -> Context:
    nothing = cast("Any", None)
    return Context({}, check_mode=False, diff=False, run=Run.from_environ({}), progress=nothing, warn=print, hide=print)


def test_a_module_ends_with_its_checks_where_all_is_ok(context: Context) -> None:
    ended = context.conclude([Check("a", OK, "Fine.")], msg="All is well.", size_bytes=7)
    assert ended == {
        "changed": False,
        "size_bytes": 7,
        "status": "ok",
        "checks": [{"name": "a", "status": "ok", "msg": "Fine.", "subject": ""}],
        "msg": "All is well.",
    }


@pytest.mark.parametrize("status", [BREACH, UNKNOWN])
def test_what_is_not_ok_fails_the_task_with_the_whole_result(context: Context, status: Status) -> None:
    with pytest.raises(RunbookError, match="Not well") as caught:
        context.conclude([Check("a", OK), Check("b", status, "…")], msg="Not well.", changed=True, size_bytes=7)
    assert caught.value.status is status
    assert (caught.value.context["changed"], caught.value.context["size_bytes"]) == (True, 7)
    assert [each["name"] for each in cast("Any", caught.value.context["checks"])] == ["a", "b"]


def test_work_that_is_done_goes_on_with_what_is_unknown_beside_it(context: Context) -> None:
    assert context.conclude(UNKNOWN, msg="Done.", fail_on_unknown=False)["status"] == "unknown"
    with pytest.raises(RunbookError):
        context.conclude(BREACH, msg="Undone.", fail_on_unknown=False)


def test_an_error_says_breach_unless_nobody_answered() -> None:
    assert RunbookError("No.").status is BREACH
    assert UnreachableError("No answer.").status is UNKNOWN
    assert RunbookError("No.", code="not_set_up").code == "not_set_up"
    assert RunbookError("No.").code == ""


def test_a_sentence_around_an_error_keeps_what_it_means() -> None:
    error = UnreachableError("No answer.", code="s3")
    around = RunbookError(f"Nothing was made. {error.message}", **({"changed": False} | error.context))
    assert (around.status, around.code) == (UNKNOWN, "s3")
