"""Which columns go into a hash in which form, and what two contents say of each other."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import (
    Column,
    Content,
    Table,
    are_comparable,
    compare,
    method,
)
from ansible.module_utils.runbook.rules.status import Status


@pytest.mark.parametrize("type_name", ["int8", "numeric", "text", "bpchar", "timestamptz", "json", "bytea", "uuid"])
def test_a_type_of_one_text_for_one_value_goes_in_as_it_is_sent(type_name):
    assert Column("c", "pg_catalog", type_name).form == "binary"


@pytest.mark.parametrize(
    "type_name", ["float8", "_text", "interval", "int4range", "tsquery", "tsvector", "jsonb", "xml", "regclass", "box"]
)
def test_a_type_whose_bytes_say_more_than_a_dump_goes_in_as_text(type_name):
    assert Column("c", "pg_catalog", type_name).form == "text"


def test_types_of_a_database_go_in_as_text():
    """Their binary form names them by a number that another database gives to something else."""
    assert Column("c", "public", "citext").form == "text"
    assert Column("c", "public", "text").form == "text"


def test_the_sample_follows_a_column_that_is_the_same_everywhere():
    odd, plain = Column("m", "public", "mood"), Column("id", "pg_catalog", "int8")
    name = QualifiedName("public", "t")
    assert Table(1, name, 0, (odd, plain)).sample_column == plain
    assert Table(1, name, 0, (odd,)).sample_column is None


def test_unknown_is_never_equal():
    assert compare(Content(1, "5"), Content(1, "5")) == "equal"
    assert compare(Content(1, "5"), Content(1, "6")) == "differs"
    assert compare(Content(1, "5"), Content(2, "5")) == "differs"
    assert compare(Content(1, None), Content(1, "5")) == Status.UNKNOWN
    assert compare(Content(1, "5"), Content(1, None)) == Status.UNKNOWN
    assert compare(Content(1, None), Content(2, None)) == "differs"


def test_servers_that_hash_differently_are_not_compared():
    same = {"wanted_method": "m", "wanted_probe": "1", "found_method": "m", "found_probe": "1"}
    assert are_comparable(**same)
    assert not are_comparable(**(same | {"found_probe": "2"}))
    assert not are_comparable(**(same | {"found_method": "n"}))
    assert method(140000) != method(130018)
