"""What pnpm outdated says, what an update changes, and why a newer version is held back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.updates import outdated
from ansible.module_utils.runbook.rules.updates.outdated import Change, Direct, Outdated
from ansible.module_utils.runbook.rules.updates.packages import NPM, Package
from ansible.module_utils.runbook.rules.updates.proof import majors_of

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FOUND = {"next": {"current": "14.2.3", "wanted": "14.2.3", "latest": "15.0.1", "isDeprecated": True}}


def test_exit_1_with_findings_is_an_answer_and_exit_0_without_too():
    assert outdated.parse(json.dumps(FOUND), 1, "") == [Outdated("next", "14.2.3", "15.0.1", is_deprecated=True)]
    assert outdated.parse("{}", 0, "") == []


@pytest.mark.parametrize(
    ("said", "code", "error"),
    [
        ("", 1, "ERR_PNPM_OUTDATED_REGISTRY_ERROR"),
        ("", 0, ""),
        ("{}", 1, ""),
        ("[]", 0, ""),
        ("null", 0, ""),
        ('{"next": {"current": "14', 1, ""),
        ('{"error": {"code": "ERR_PNPM_FETCH_404"}}', 1, "ERR_PNPM_FETCH_404"),
        (json.dumps(FOUND), 127, ""),
        ('{"next": {"current": "14.2.3"}}', 1, ""),
        ('{"next": null}', 1, ""),
    ],
)
def test_what_cannot_be_read_is_unknown_and_never_nothing(said, code, error):
    with pytest.raises(RunbookError) as refused:
        outdated.parse(said, code, error)
    assert (refused.value.status, refused.value.code) == ("unknown", "no_result")
    assert error in refused.value.message


LOCK = [
    {
        "lockfileVersion": "9.0",
        "importers": {
            ".": {
                "dependencies": {"next": {"specifier": "^14.2.0", "version": "14.2.3(react@18.0.0)"}},
                "devDependencies": {"vitest": {"specifier": "2.0.0", "version": "2.0.0"}},
            }
        },
    }
]


def test_what_the_project_itself_asks_for():
    assert outdated.direct(LOCK) == {"next": Direct("^14.2.0", "14.2.3"), "vitest": Direct("2.0.0", "2.0.0")}
    assert outdated.direct([None, {"importers": {".": {"dependencies": {"x": "1.0.0"}}}}]) == {}


def packages(*named: str) -> list[Package]:
    return [Package(NPM, *each.rsplit("@", 1)) for each in named]


def test_changes_of_a_lock_file():
    before = packages("a@1.0.0", "b@1.0.0", "b@2.0.0", "gone@1.0.0", "same@1.0.0")
    after = packages("a@1.1.0", "b@1.0.0", "b@3.0.0", "new@1.0.0", "same@1.0.0")
    assert outdated.changes(before, after, {"a"}) == [
        Change("a", "1.0.0", "1.1.0", is_direct=True),
        Change("b", "2.0.0", "3.0.0", is_direct=False),
        Change("gone", "1.0.0", "", is_direct=False),
        Change("new", "", "1.0.0", is_direct=False),
    ]


def lock(*present: str, **direct: str) -> list[object]:
    """The documents of a lock file with these packages, some of which the project itself asks for."""
    asked = {name: {"specifier": "*", "version": version} for name, version in direct.items()}
    return [
        {
            "lockfileVersion": "9.0",
            "importers": {".": {"dependencies": asked}},
            "packages": dict.fromkeys((*present, *(f"{name}@{version}" for name, version in direct.items()))),
        }
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(lock("x@2.0.0", x="1.0.0"), lock(x="2.0.0"), id="the new version was there already"),
        pytest.param(lock(x="1.0.0"), lock("x@1.0.0", x="2.0.0(y@1.0.0)"), id="the old version stays"),
        pytest.param(lock("x@2.0.0", x="1.0.0"), lock("x@1.0.0", x="2.0.0"), id="they change places"),
        pytest.param(lock("x@0.9.0", x="1.0.0"), lock("x@1.9.0", x="2.0.0"), id="another one's changes too"),
    ],
)
def test_a_major_version_that_the_project_is_given_is_seen_whoever_else_has_it(before, after):
    assert Change("x", "1.0.0", "2.0.0", is_direct=True) in majors_of(outdated.between(before, after))


def test_what_is_no_version_is_no_small_update():
    fork = "https://codeload.github.com/someone/x/tar.gz/0123abc"
    assert majors_of(outdated.between(lock(x="1.0.0"), lock(x=fork))) == [Change("x", "1.0.0", fork, is_direct=True)]
    assert majors_of(outdated.between(lock(x="1.0.0"), lock(x="1.1.0"))) == []


def why(specifier: str, current: str, latest: str, age: str = "", release_age: str = "undefined") -> str:
    found = outdated.held_back(
        [Outdated("x", current, latest)], {"x": Direct(specifier, current)}, {"x": age}, release_age, NOW
    )
    return found[0]["why"] if found else ""


def test_why_a_newer_version_is_held_back():
    assert why("^1.0.0", "1.0.0", "2.0.0").startswith("a major version")
    assert why("^0.4.0", "0.4.0", "0.5.0").startswith("a major version")
    assert why("1.0.0", "1.0.0", "1.1.0") == "package.json asks for 1.0.0"
    assert why("~1.0.0", "1.0.0", "1.1.0") == "package.json asks for ~1.0.0"
    assert why("^1.0.0", "1.1.0", "1.1.0") == ""
    hour_ago = json.dumps({"1.1.0": "2026-11-29T11:00:00.000Z"})
    assert why("^1.0.0", "1.0.0", "1.1.0", hour_ago) == (
        "published 2026-11-29 11:00 UTC, and the release age is 1440 minutes"
    )
    assert "another package" in why("^1.0.0", "1.0.0", "1.1.0", hour_ago, "60")
    assert "another package" in why("^1.0.0", "1.0.0", "1.1.0", "no json")


def test_the_age_is_asked_only_where_it_may_be_why():
    newest = [Outdated("a", "1.0.0", "1.1.0"), Outdated("b", "1.0.0", "2.0.0"), Outdated("c", "1.0.0", "1.1.0")]
    after = {"a": Direct("^1.0.0", "1.0.0"), "b": Direct("^1.0.0", "1.0.0"), "c": Direct("1.0.0", "1.0.0")}
    assert outdated.needs_age(newest, after) == ["a"]
