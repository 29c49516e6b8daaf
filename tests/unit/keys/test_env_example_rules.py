"""What an example file may hold, and what is added to it."""

from __future__ import annotations

import doctest

import pytest
from ansible.module_utils.runbook.rules.keys import env_example as rules


def test_doctests():
    assert doctest.testmod(rules).failed == 0


@pytest.mark.parametrize(
    "value",
    [
        "sb_secret_0123456789abcdefABCDEF",
        '"sb_publishable_0123456789abcdef"',
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x",
        "AKIAIOSFODNN7ABCDEFG",
        "postgresql://app:h8Fq2mZp@db.internal/app",
        "k3Jf9sLq02mXv81bRt6Zw4",
        "8f14e45fceea167a5a36dedd4bea2543",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_value_that_looks_alive_is_found_also_where_it_is_commented_out(value):
    for line in (f"A={value}", f"# A={value}", f"export A={value} # ask Ada"):
        (found,) = rules.alive(f"# Settings\n{line}\n")
        assert str(found) == "A (line 2)"
        assert value not in str(found)


@pytest.mark.parametrize(
    "value",
    [
        "", "your-key-here", "<from Vercel>", "http://localhost:3000", "postgresql://postgres:postgres@localhost:5432/app",
        "postgresql://user:password@localhost/app", "production", "3600", "xxxxxxxxxxxxxxxxxxxxxxxx", "${OTHER}",
        "your_supabase_secret_key_here_1", "https://abcdefghijklmnopqrst.supabase.co",
    ],
)  # fmt: skip
def test_what_stands_for_a_value_is_none(value):
    assert rules.alive(f"A={value}\n") == []


def test_only_names_are_added_and_what_is_there_stays_as_it_is():
    text = "# Settings\nB=2\n# C=\n"
    made = rules.extended(text, ["C", "A", "B", "D"])
    assert made.startswith(text.rstrip("\n"))
    assert rules.names_of(made) == ["B", "C", "A", "D"]
    assert [line for line in made.splitlines() if line.startswith(("A", "D"))] == ["A=", "D="]
    assert rules.extended(made, ["A", "B", "C", "D"]) == made
    assert rules.extended("", ["A"]).endswith("A=\n")
