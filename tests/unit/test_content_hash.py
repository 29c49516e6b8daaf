"""Which columns go into a hash in which form, and what two contents say of each other."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.content_hash import Column, Content, Table, are_comparable, compare, method
from ansible.module_utils.runbook.rules.identifiers import QualifiedName


@pytest.mark.parametrize(
    ("type_name", "form"),
    [
        ("int8", "binary"), ("numeric", "binary"), ("float8", "binary"), ("text", "binary"), ("_text", "binary"),
        ("timestamptz", "binary"), ("json", "binary"), ("tsvector", "binary"), ("int4range", "binary"),
        ("jsonb", "text"), ("xml", "text"), ("regclass", "text"), ("_regclass", "text"), ("_xml", "text"),
        ("aclitem", "text"),
    ],
)  # fmt: skip
def test_types_of_postgresql(type_name, form):
    kind = "r" if type_name == "int4range" else "b"
    assert Column("c", "pg_catalog", type_name, kind).form == form


def test_types_of_a_database_go_in_as_text():
    """Their binary form names them by a number that another database gives to something else."""
    assert Column("c", "public", "citext", "b").form == "text"
    assert Column("c", "public", "_mood", "b").form == "text"
    for kind in "cdep":
        assert Column("c", "pg_catalog", "x", kind).form == "text"
    assert Column("c", "pg_catalog", "x", "b", has_send=False).form == "text"


def test_the_sample_follows_a_column_that_is_the_same_everywhere():
    odd, plain = Column("m", "public", "mood", "e"), Column("id", "pg_catalog", "int8", "b")
    name = QualifiedName("public", "t")
    assert Table(1, name, 0, (odd, plain)).sample_column == plain
    assert Table(1, name, 0, (odd,)).sample_column is None


def test_unknown_is_never_equal():
    assert compare(Content(1, "5"), Content(1, "5")) == "equal"
    assert compare(Content(1, "5"), Content(1, "6")) == "differs"
    assert compare(Content(1, "5"), Content(2, "5")) == "differs"
    assert compare(Content(1, None), Content(1, "5")) == "unknown"
    assert compare(Content(1, "5"), Content(1, None)) == "unknown"
    assert compare(Content(1, None), Content(2, None)) == "differs"


def test_servers_that_hash_differently_are_not_compared():
    same = {"wanted_method": "m", "wanted_probe": "1", "found_method": "m", "found_probe": "1"}
    assert are_comparable(**same)
    assert not are_comparable(**(same | {"found_probe": "2"}))
    assert not are_comparable(**(same | {"found_method": "n"}))
    assert method(140000) != method(130018)
