"""Uploads that killed runs left: those that are old enough, and what is said where nobody may list them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from ansible.module_utils.runbook.drivers.s3 import bucket
from ansible.module_utils.runbook.errors import RunbookError

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def store(uploads):
    return SimpleNamespace(uploads=uploads, url="s3://b/{}".format)


def dead(uploads, said):
    return bucket.dead_uploads(store(uploads), "pitr/db/", begun_before=NOW, warn=said.append)


def test_only_those_begun_before_are_dead():
    found = [("pitr/db/a", "1", NOW - timedelta(seconds=1)), ("pitr/db/b", "2", NOW)]
    assert dead(lambda _prefix: found, []) == [("pitr/db/a", "1")]


def test_who_may_not_list_them_is_told_and_who_gets_no_answer_fails():
    def refused(code):
        def uploads(_prefix):
            raise RunbookError("Listing failed.", s3_code=code)

        return uploads

    said: list[str] = []
    assert dead(refused("AccessDenied"), said) is None
    assert "s3://b/pitr/db/ are unknown, because these keys lack s3:ListBucketMultipartUploads" in said[0]
    with pytest.raises(RunbookError):
        dead(refused("SlowDown"), said)
