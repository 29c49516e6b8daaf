"""Moments that people type."""

from __future__ import annotations

import doctest
import re

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "before: 'yesterday' is no time; write it as 2026-11-23T14:29:00Z."),
        ("", "is no time"),
        ("2026-11-23T02:59:00", "write 2026-11-23T02:59:00Z if it is UTC"),
        ("2026-11-23 02:59", "write 2026-11-23T02:59:00Z if it is UTC"),
        ("2026-11-23", "write 2026-11-23T00:00:00Z if it is UTC"),
    ],
)
def test_no_moment(text, says):
    with pytest.raises(RunbookError, match=re.escape(says)):
        moment.read("before", text)


@pytest.mark.parametrize("text", ["2026-11-23T03:00:00Z", "2026-11-23 04:00:00+01:00", " 20261123T030000+0000 "])
def test_a_moment(text):
    assert moment.read("before", text).isoformat() == "2026-11-23T03:00:00+00:00"


def test_doctests():
    assert doctest.testmod(moment).failed == 0
