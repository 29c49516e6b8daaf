"""The generator's text; what the server makes of it is in tests/integration/sandbox/test_sandbox_database.py."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.sandbox.demo_database import fingerprint, sizes, statements, steps


def test_scale_multiplies_rows():
    assert sizes(1)["audit"] == 60_000
    assert sizes(50)["audit"] == 3_000_000
    assert sizes(50)["messages"] == 3_000_000
    assert min(sizes(0.0001).values()) > 0


@pytest.mark.parametrize("scale", [0, -1, 1001, float("nan"), float("inf")])
def test_scale_out_of_range_is_one_sentence(scale):
    with pytest.raises(RunbookError, match=r"^scale: .* is out of range; give a number above 0 and up to 1000\.$"):
        statements(scale=scale)


def test_same_scale_and_seed_give_the_same_text():
    assert statements(scale=0.5, seed=7) == statements(scale=0.5, seed=7)
    assert fingerprint(steps(scale=0.5, seed=7)) == fingerprint(steps(scale=0.5, seed=7))


def test_fingerprint_knows_scale_and_seed():
    assert len({fingerprint(steps(scale=scale, seed=seed)) for scale in (0.5, 1) for seed in (1, 2)}) == 4


def test_every_placeholder_is_filled():
    for statement in statements(scale=1, seed=-3):
        assert "$" not in statement


def test_each_step_is_one_statement_with_a_label():
    made = steps(scale=1, seed=1)
    # A block that goes on where a role is there already is one statement too.
    assert all(step.label and (";" not in step.sql.rstrip(";") or step.sql.startswith("DO '")) for step in made)


def test_every_name_is_qualified():
    """A session of ours searches pg_catalog alone."""
    for statement in statements(scale=1):
        for name in re.findall(r"(?:CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM|REFERENCES) ([a-z_.]+)", statement):
            assert name.startswith(("public.", "pg_temp.")), statement


def test_mail_addresses_cannot_be_anybodys():
    text = "\n".join(statements(scale=1))
    assert set(re.findall(r"'@([a-z.]+)'", text)) == {"example.com"}
