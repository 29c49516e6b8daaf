"""How the set of variables of a snapshot is made again, and what is named that cannot be."""

from __future__ import annotations

import doctest
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy import env
from ansible.module_utils.runbook.rules.deploy.deployments import Variable
from ansible.module_utils.runbook.rules.deploy.fingerprint import fingerprint
from ansible.module_utils.runbook.rules.deploy.rollback import Rotated
from ansible.module_utils.runbook.rules.status import Status

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
LONG = "s" * 40
SNAPSHOT = env.Snapshot("prj_1", NOW, ())


def kept(name: str = "KEY", value: str | None = "old", **changes: Any) -> env.Kept:
    """A variable as it was."""
    made = env.Kept(f"id-{name}", name, "encrypted", ("production",), "", "", NOW - timedelta(days=1), value)
    return replace(made, **changes)


def sensitive(**changes: Any) -> env.Kept:
    comment = f"key a {fingerprint('SECRET', LONG)}"
    return replace(kept("SECRET", None, type="sensitive", comment=comment), **changes)


def planned(then: list[env.Kept], now: list[env.Kept], **more: Any) -> env.Plan:
    return env.plan(SNAPSHOT, then, now, more.get("given", {}), more.get("rotated", ()))


def test_doctests():
    assert doctest.testmod(env).failed == 0


def test_a_set_that_is_the_same_needs_nothing():
    then = [kept(), sensitive(), kept("TYPED", None, type="system")]
    assert planned(then, then).is_empty
    # The same value, written again, is no difference.
    assert planned(then[:1], [kept(updated_at=NOW)]).is_empty
    assert planned(then[1:2], [sensitive(updated_at=NOW)]).is_empty


def test_what_was_changed_removed_and_added_is_put_back():
    then = [kept("A"), kept("B"), kept("C"), kept("D", comment="why")]
    now = [kept("A", "new"), kept("B", id="id-again"), kept("D"), kept("E")]
    plan = planned(then, now)
    assert {name: setting.value for name, setting in plan.edited.items()} == {"id-A": "old", "id-D": "old"}
    assert [each.name for each in plan.created] == ["C"]
    assert [each.name for each in plan.deleted] == ["E"]
    assert [(row["name"], row["act"]) for row in plan.rows] == [
        ("A", "changed back"), ("C", "made again"), ("D", "changed back"), ("E", "removed"),
    ]  # fmt: skip
    assert "old" not in f"{plan.rows} {plan!r}"


def test_two_of_one_name_for_two_targets_are_two():
    one, other = kept(), kept(id="id-2", targets=("preview",), value="other")
    plan = planned([one, other], [replace(one, value="x"), replace(other, targets=("preview", "development"))])
    assert set(plan.edited) == {"id-KEY", "id-2"}
    assert plan.edited["id-2"].targets == ("preview",)


@pytest.mark.parametrize(
    ("then", "given", "says"),
    [
        (sensitive(), {}, "nobody can read a sensitive value, and app_config_values has none"),
        (sensitive(), {"SECRET": "x" * 40}, "is not that of then"),
        (sensitive(comment=""), {"SECRET": LONG}, "nobody knows whether the given one is that of then"),
        (kept(value=None), {}, "it could not be read then"),
    ],
)
def test_what_cannot_be_restored_is_named_with_all_the_others(then, given, says):
    other = kept("OTHER", None, type="sensitive")
    with pytest.raises(RunbookError, match="2 variables cannot be restored, so nothing was changed") as error:
        planned([then, other], [], given=given)
    assert error.value.code == "env_unrestorable"
    assert says in error.value.message
    assert "OTHER (production)" in error.value.message
    assert LONG not in f"{error.value.message} {error.value.context}"


def test_a_sensitive_value_comes_from_the_vault_where_it_is_proven():
    assert planned([sensitive()], [], given={"SECRET": LONG}).created[0].value == LONG
    changed = sensitive(updated_at=NOW, comment="")
    assert planned([sensitive()], [changed], given={"SECRET": LONG}).edited["id-SECRET"].value == LONG


def test_what_belongs_to_others_is_left_as_it_is():
    since = [Rotated("keys/server", ("KEY",), None, NOW + timedelta(seconds=1))]
    before = [Rotated("keys/server", ("KEY",), NOW, NOW)]
    plan = planned([kept()], [kept(value="new")], rotated=since)
    assert plan.is_empty
    assert plan.rows[0]["why"] == "keys/server was rotated since"
    assert planned([], [kept()], rotated=since).is_empty
    assert not planned([kept()], [kept(value="new")], rotated=before).is_empty
    theirs = [kept("URL", None, type="secret"), kept("ENV", None, type="system")]
    assert planned([], theirs).is_empty
    assert planned(theirs, []).is_empty


def test_a_document_holds_no_value_and_is_read_again():
    variables = [kept(value=LONG), sensitive()]
    body = env.body("prj_1", NOW, "why", [(variables[0], "sealed"), (variables[1], "")])
    assert LONG not in str(body)
    read = env.Snapshot.read("env/x", body, "prj_1")
    assert (
        read.opened(lambda sealed, label: LONG if (sealed, label) == ("sealed", "prj_1/id-KEY/KEY") else "")
        == variables
    )
    with pytest.raises(RunbookError, match="one of project prj_1, and not of prj_2"):
        env.Snapshot.read("env/x", body, "prj_2")
    with pytest.raises(RunbookError, match="lacks variables") as error:
        env.Snapshot.read("env/x", {"project_id": "prj_1", "taken_at": NOW.isoformat()}, "prj_1")
    assert error.value.status is Status.UNKNOWN


def test_a_snapshot_is_chosen_by_its_name():
    names = ["env/prj_1-20261128T020000Z", "env/prj_1-20261129T020000Z"]
    assert env.choose(names, "prj_1-20261128T020000Z", "prj_1") == names[0]
    assert env.choose(names, names[1], "prj_1") == names[1]
    with pytest.raises(RunbookError, match=r"it is empty; the newest are prj_1-20261129T020000Z, prj_1-2026"):
        env.choose(names, "", "prj_1")
    with pytest.raises(RunbookError, match="'x' is no snapshot of prj_1; there is none yet"):
        env.choose([], "x", "prj_1")


def test_the_name_of_a_set_follows_each_change():
    one = Variable("1", "A", "plain", ("production",), "", "", NOW)
    assert env.digest([one]) == env.digest([one])
    others = [[], [replace(one, updated_at=NOW + timedelta(seconds=1))], [one, replace(one, id="2")]]
    assert len({env.digest(each) for each in [[one], *others]}) == 4
