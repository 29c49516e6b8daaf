"""What has to be known of an update before it goes to production."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.state import Document
from ansible.module_utils.runbook.rules.updates.outdated import Change
from ansible.module_utils.runbook.rules.updates.proof import (
    Reviewed,
    Staged,
    check_reviewed,
    check_staged,
    majors_of,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
COMMIT = "a" * 40
STAGED = Staged(COMMIT, "runbook/updates", "0" * 64, "dpl_1", NOW)
NEXT = Change("next", "14.2.3", "15.0.1", is_direct=True)


def document(name: str, body: dict[str, object]) -> Document:
    return Document(name, body, "run", "host/1", NOW.isoformat(), "token")


def staged(found: Staged | None, days: float = 0) -> str:
    return check_staged(found, commit=COMMIT, branch="runbook/updates", now=NOW + timedelta(days=days), max_age_days=7)


def test_a_proof_counts_for_some_days():
    assert staged(STAGED, 7).startswith("proven on staging at 2026-11-29 12:00:00")
    with pytest.raises(RunbookError, match="more than 7 days ago") as late:
        staged(STAGED, 7.001)
    assert late.value.code == "staged_long_ago"
    assert staged(STAGED, -0.003).startswith("proven")
    with pytest.raises(RunbookError, match=r"which is in the future .* by the state store's clock") as early:
        staged(STAGED, -0.004)
    assert (early.value.code, early.value.status) == ("staged_in_the_future", "unknown")
    with pytest.raises(RunbookError, match="--tags stage -e app_updates_branch=runbook/updates") as never:
        staged(None)
    assert never.value.code == "not_staged"


def test_the_same_proof_is_kept_for_a_day():
    later = replace(STAGED, proven_at=NOW + timedelta(hours=23))
    assert later.only_confirms(STAGED)
    assert not replace(later, proven_at=NOW + timedelta(days=1)).only_confirms(STAGED)
    assert not replace(later, deployment="dpl_2").only_confirms(STAGED)


def test_a_major_version_needs_a_person_who_read_of_it():
    transitive = Change("semver", "6.0.0", "7.0.0", is_direct=False)
    majors = majors_of([NEXT, transitive, Change("pg", "8.1.0", "8.2.0", is_direct=True)])
    assert majors == [NEXT]
    said = Reviewed(COMMIT, "Ada Byron", ("next 14.2.3 -> 15.0.1",), NOW)
    assert check_reviewed(said, majors, commit=COMMIT, branch="b") == "reviewed by Ada Byron at 2026-11-29 12:00:00 UTC"
    assert check_reviewed(None, [], commit=COMMIT, branch="b") == ""
    for found in (None, replace(said, read=("next 14.2.3 -> 15.0.0",))):
        with pytest.raises(RunbookError, match="nobody said that the changelog was read: next ") as not_:
            check_reviewed(found, majors, commit=COMMIT, branch="b")
        assert not_.value.code == "not_reviewed"


def test_documents_of_proofs():
    name = Staged.document_name(COMMIT)
    assert Staged.of(document(name, STAGED.body())) == STAGED
    said = Reviewed(COMMIT, "Ada Byron", ("next 14.2.3 -> 15.0.1",), NOW)
    assert Reviewed.of(document(Reviewed.document_name(COMMIT), said.body())) == said
    for field, value in (("commit", ""), ("proven_at", "yesterday"), ("lock_sha256", None)):
        with pytest.raises(RunbookError, match=f"has no {field}") as damaged:
            Staged.of(document(name, STAGED.body() | {field: value}))
        assert damaged.value.status == "unknown"
    with pytest.raises(RunbookError, match="has no read"):
        Reviewed.of(document(name, said.body() | {"read": "all"}))
