"""Keys as an inventory lists them, and how far their rotations are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.deployments import Deployment, Variable
from ansible.module_utils.runbook.rules.keys import definition, rotation
from ansible.module_utils.runbook.rules.keys.rotation import Rotation, State, Use, wanted
from ansible.module_utils.runbook.rules.state import Document, serialise

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
SERVER: dict[str, Any] = {"name": "server", "kind": "supabase_secret", "env": [{"name": "SUPABASE_SECRET_KEY"}]}
ROLE: dict[str, Any] = {
    "name": "database", "kind": "database_role", "roles": ["app_a", "app_b"],
    "url": "postgresql://db/app", "env": [{"name": "DATABASE_URL", "part": "url"}],
}  # fmt: skip
S3: dict[str, Any] = {
    "name": "uploads", "kind": "s3_access_key", "user": "uploads",
    "env": [{"name": "S3_ID", "part": "id"}, {"name": "S3_SECRET", "part": "secret"}],
}  # fmt: skip


def variable(name: str, targets: tuple[str, ...] = ("production",), comment: str = "") -> Variable:
    return Variable(f"id-{name}-{targets}", name, "sensitive", targets, "", comment, NOW)


def test_keys_as_they_are_listed():
    server, role, s3 = definition.parse([SERVER, ROLE, S3])
    assert (server.max_age_days, server.env[0].targets, server.env[0].part) == (90, ("production",), "value")
    (setting,) = role.settings({"user": "app_b", "password": "p" * 43}, "database_1")
    assert setting.value == f"postgresql://app_b:{'p' * 43}@db/app"
    (pooled,) = definition.parse([ROLE | {"user_suffix": ".ref"}])
    assert "//app_b.ref:p" in pooled.settings({"user": "app_b", "password": "p" * 43}, "l")[0].value
    assert [each.type for each in s3.settings({"id": "AKIA1", "secret": "s" * 40}, "uploads_1")] == [
        "plain", "sensitive",
    ]  # fmt: skip
    # What a comment says of a value is a fingerprint, and nothing of one that may be guessed.
    marks = [each.comment for each in s3.settings({"id": "AKIA1", "secret": "s" * 40}, "uploads_1")]
    assert marks[0] == "key uploads_1"
    assert marks[1].startswith("key uploads_1 ")
    assert "ssss" not in marks[1]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (SERVER | {"name": "a b"}, "no name of a key"),
        (SERVER | {"kind": "supabase_legacy"}, "Migrate first"),
        (SERVER | {"env": []}, "in no environment variable"),
        (SERVER | {"env": [{"name": "A-B"}]}, "no name of an environment variable"),
        (SERVER | {"env": [{"name": "A", "part": "secret"}]}, "has no part 'secret'; take value"),
        (SERVER | {"env": [{"name": "A", "targets": ["preview"]}]}, "not for production"),
        (SERVER | {"env": [{"name": "A"}, {"name": "A"}]}, "there twice"),
        (SERVER | {"env": [{"name": "NEXT_PUBLIC_KEY"}]}, "sent to every browser"),
        (SERVER | {"max_age_days": 0}, "out of bounds"),
        (SERVER | {"user": "x"}, "a key of kind supabase_secret has none"),
        (S3 | {"user": ""}, "name the user"),
        (S3 | {"env": S3["env"][:1]}, "its id and its secret"),
        (ROLE | {"roles": ["app_a"]}, "the two roles that take turns"),
        (ROLE | {"roles": ["app_a", "app_a"]}, "the two roles that take turns"),
        (ROLE | {"url": ""}, "only one of the two"),
        (ROLE | {"url": "postgresql://me@db/app"}, "no address without a user"),
        (ROLE | {"url": "", "env": [{"name": "P", "part": "password"}]}, "the role's name changes too"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(entry, says):
    with pytest.raises(RunbookError) as error:
        definition.parse([entry])
    assert says in str(error.value)
    assert str(error.value).startswith("keys[0]")


def test_two_keys_share_neither_name_nor_variable():
    for other, says in ((SERVER, "there twice"), (SERVER | {"name": "other"}, "holds another key already")):
        with pytest.raises(RunbookError, match=says):
            definition.parse([SERVER, other])


def test_variables_that_could_not_be_written_are_named_before_a_key_is_made():
    (key,) = definition.parse([SERVER])
    key.check_variables([variable("SUPABASE_SECRET_KEY"), variable("OTHER", ("preview",))])
    key.check_variables([variable("SUPABASE_SECRET_KEY", ("preview",))])
    with pytest.raises(RunbookError, match="let the two agree"):
        key.check_variables([variable("SUPABASE_SECRET_KEY", ("production", "preview"))])


def test_variables_say_which_key_they_hold():
    (key,) = definition.parse([S3])
    held = [variable(each.name, comment=each.comment) for each in key.settings({"id": "A", "secret": "s" * 40}, "l1")]
    assert key.held("l1", held) == {"S3_ID": "", "S3_SECRET": held[1].comment.split()[2]}
    assert key.held("l1", held[:1]) is None
    assert key.held("l", held) is None
    # The same name for previews alone is another variable.
    assert key.held("l1", [held[0], variable("S3_SECRET", ("preview",), held[1].comment)]) is None


def a_rotation(phase: str = rotation.PROVEN) -> Rotation:
    (key,) = definition.parse([SERVER])
    made = Rotation.begun(key, "old-id", NOW - timedelta(days=100), "dpl_1", NOW)
    made = made.to(rotation.CREATED, NOW, new="new-id").to(rotation.WRITTEN, NOW).to(rotation.DEPLOYED, NOW)
    made = made.proven(NOW, 7)
    if phase == rotation.RETIRED:
        return made.retired(NOW + timedelta(days=7))
    return made if phase == rotation.PROVEN else made.to(phase, NOW + timedelta(days=7))


def a_deployment(name: str, at: datetime) -> Deployment:
    return Deployment(
        name, "", "", "production", "READY", at, "", "", is_rollback_candidate=True, was_live=True, key="", error=""
    )


def test_deployments_with_a_dead_key_stay_known_through_later_rotations():
    (key,) = definition.parse([SERVER])
    retired = a_rotation(rotation.RETIRED)
    following = retired.next(key, "dpl_2", NOW + timedelta(days=100))
    for made in (retired, following):
        assert made.is_dead(a_deployment("a", NOW - timedelta(seconds=1)))
        assert not made.is_dead(a_deployment("b", NOW))
        assert made.body()["dead_before"] == NOW.isoformat()
    assert not a_rotation().is_dead(a_deployment("a", NOW - timedelta(days=1)))
    failed = replace(a_rotation(rotation.GONE_BACK), deployment="dpl_bad")
    again = failed.next(key, "dpl_1", NOW)
    assert again.is_dead(a_deployment("dpl_bad", NOW))
    assert not failed.is_dead(a_deployment("dpl_bad", NOW))
    assert again.body()["dead_deployments"] == ["dpl_bad"]


def test_a_document_holds_a_rotation_and_no_secret():
    made = a_rotation(rotation.RETIRED)
    document = Document(
        Rotation.document_name("prj_1", "server"), made.body(), "run", "host/1", NOW.isoformat(), "t" * 32
    )
    assert serialise(document)
    assert Rotation.of(document) == made
    assert document.body["retired_at"] == (NOW + timedelta(days=7)).isoformat()
    for damage in ({"phase": "lost"}, {"at": None}, {"retire_after": "soon"}):
        damaged = Document(document.name, document.body | damage, "run", "host/1", "", "t")
        with pytest.raises(RunbookError, match="no rotation of this project"):
            Rotation.of(damaged)


def test_the_days_of_grace_end_to_the_second():
    made = a_rotation()
    assert not made.may_be_retired(NOW + timedelta(days=7, seconds=-1))
    assert made.may_be_retired(NOW + timedelta(days=7))
    assert (made.in_use, made.in_use_since) == ("new-id", NOW)
    back = made.to(rotation.GONE_BACK, NOW)
    assert (back.in_use, back.in_use_since) == ("old-id", NOW - timedelta(days=100))


@pytest.mark.parametrize(
    ("use", "status"),
    [
        (Use("Just now.", is_used=True), "breach"),
        (Use("Yesterday.", unused_since=NOW - timedelta(hours=24)), "ok"),
        (Use("Last night.", unused_since=NOW - timedelta(hours=23, minutes=59)), "breach"),
        (Use("Who knows."), "unknown"),
    ],
)
def test_an_old_key_is_retired_only_where_it_was_unused_for_a_day(use, status):
    assert use.judge("server", NOW).status == status


def test_which_keys_a_run_rotates():
    server, role, s3 = definition.parse([SERVER, ROLE, S3])

    def states(**rotations: Rotation) -> list[State]:
        ages = {"server": NOW - timedelta(days=90), "uploads": NOW - timedelta(days=89), "database": None}
        return [State(key, rotations.get(key.name), ages[key.name], NOW) for key in (server, role, s3)]

    assert wanted(states(), ()) == (server, role)
    assert wanted(states(), ("uploads",)) == (s3,)
    # What is on its way goes on, whatever was named; what is in its grace waits.
    on_its_way = Rotation.begun(role, "app_a", None, "dpl_1", NOW)
    assert wanted(states(database=on_its_way, server=a_rotation()), ("uploads",)) == (role, s3)
    assert wanted(states(server=a_rotation()), ()) == (role,)
    # Who names a key that somebody saw must not believe that it was rotated now; who runs the same again may.
    assert wanted(states(server=a_rotation()), ("server",)) == ()
    before = a_rotation()
    before = replace(before, at={**before.at, rotation.PROVEN: (NOW - timedelta(hours=2)).isoformat()})
    with pytest.raises(RunbookError, match="no third one is made before it is retired"):
        wanted(states(server=before), ("server",))
    assert wanted(states(database=on_its_way, server=before), ("server",)) == (role,)
    with pytest.raises(RunbookError, match="no key of this inventory"):
        wanted(states(), ("sever",))


@pytest.mark.parametrize(
    ("since_days", "made", "after_days", "status", "says"),
    [
        (10, None, 0, "ok", "10 days old, at most 90."),
        (80, None, 0, "ok", "due in 10 days"),
        (90, None, 0, "breach", "rotate it"),
        (None, None, 0, "unknown", "nobody knows how old"),
        (0, rotation.PROVEN, 7, "ok", "its old key is valid until"),
        (0, rotation.PROVEN, 9, "breach", "action=retire"),
        (0, rotation.GONE_BACK, 7, "breach", "went back"),
        (0, rotation.GOING_BACK, 7, "breach", "action=create again"),
        (0, rotation.RETIRED, 7, "ok", "7 days old"),
    ],
)
def test_the_age_of_a_key_is_a_finding(since_days, made, after_days, status, says):
    (key,) = definition.parse([SERVER])
    last = a_rotation(made) if made else None
    since = last.in_use_since if last else NOW - timedelta(days=since_days) if since_days is not None else None
    check = State(key, last, since, NOW + timedelta(days=after_days)).check()
    assert (check.status, check.subject) == (status, "server")
    assert says in check.msg
