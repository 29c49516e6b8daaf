"""Functions that a restore cannot run are known while the database is still there to be changed."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.backup.restorable import Function, Use, unqualified
from ansible.module_utils.runbook.rules.identifiers import QualifiedName

NAMES = {"plain", "people", "mood", "weird name"}
USE = Use("the check c of public.t", QualifiedName("public", "root"))


def said(*bodies: str) -> list[str]:
    """What is said of a check on the first function, which may call others, public.f1 and so on."""
    names = ["root", *(f"f{n}" for n in range(1, len(bodies)))]
    functions = [Function(QualifiedName("public", name), body) for name, body in zip(names, bodies, strict=True)]
    return list(unqualified([USE], functions, NAMES))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("SELECT plain($1)", "plain()"),
        ("SELECT PLAIN ($1)", "plain()"),
        ('SELECT "weird name"($1)', "weird name()"),
        ("SELECT count(*) > 0 FROM people", "people"),
        ("SELECT true FROM public.x JOIN people ON true", "people"),
        ("SELECT $1::mood IS NULL", "mood"),
        ("BEGIN RETURN /* public. */ plain(a); END", "plain()"),
    ],
)
def test_a_name_without_a_schema_is_found(body, named):
    (sentence,) = said(body)
    assert "the check c of public.t runs public.root()" in sentence
    assert f"names {named} without a schema" in sentence
    assert "ALTER FUNCTION public.root SET search_path" in sentence


@pytest.mark.parametrize(
    "body",
    [
        "SELECT public.plain($1)", "SELECT lower($1)", "SELECT 'plain(1)'", "SELECT 1 -- plain(1)\n",
        "SELECT $1 /* plain(1) */", "SELECT count(*) FROM public.people", "SELECT x.plain FROM public.x",
        "SELECT $1::public.mood", "SELECT explain(1)", "SELECT $a$ plain(1) $a$", "SELECT extract(day FROM $1)",
    ],
)  # fmt: skip
def test_what_a_restore_finds_is_no_matter(body):
    assert said(body) == []


def test_it_is_looked_for_through_other_functions_and_in_circles():
    (sentence,) = said("SELECT public.f1($1)", "SELECT public.f2(public.root($1))", "SELECT plain($1)")
    assert "runs public.f2(), through public.root(), which names plain()" in sentence
    assert said("SELECT public.f1($1)", "SELECT public.root($1)") == []
