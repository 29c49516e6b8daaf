"""Who may read an archive: policies written for another table, and ways in which an archive is more open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import archive_access as rules

SOURCE, ARCHIVE = QualifiedName("public", "audit_log"), QualifiedName("public", "audit_log_archive")
OWN = rules.Policy("own", "r", permissive=True, roles=("anon",), using="(actor = auth.uid())")
NEVER = rules.Policy("never", "*", permissive=False, roles=(rules.PUBLIC,), using="(action <> 'secret'::text)")
HERE = rules.Access("app", row_security=True, policies=(OWN, NEVER))
ALIKE = rules.Compared(SOURCE, ARCHIVE, HERE, HERE)


@pytest.mark.parametrize(
    ("using", "expected"),
    [
        ("(actor = auth.uid())", "(actor = auth.uid())"),
        # In a subquery the server names the table before its columns; here too, and nowhere else.
        (
            "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.org = audit_log.org)))",
            '( EXISTS ( SELECT 1 FROM public.members m WHERE ( m.org = "audit_log_archive".org ) ) )',
        ),
        ("(x IN ( SELECT audit_log_1.x FROM public.audit_log audit_log_1))", None),
        ("(note = 'audit_log.org'::text)", None),
        ("(audit_log.audit_log IS NULL)", '( "audit_log_archive".audit_log IS NULL )'),
        (
            "(audit_log.note = 'it''s audit_log.x'::text)",
            "( \"audit_log_archive\".note = 'it''s audit_log.x' : : text )",
        ),
    ],
)
def test_a_policy_is_written_for_another_table(using, expected):
    moved = replace(OWN, using=using).moved("audit_log", "audit_log_archive")
    assert moved.using == (using if expected is None else expected)
    assert moved.condition("audit_log_archive") == replace(OWN, using=using).condition("audit_log")


def test_a_policy_that_names_the_archive_already_is_not_written():
    policy = replace(OWN, using="(EXISTS ( SELECT 1 FROM public.audit_log_archive WHERE (audit_log.id = 1)))")
    with pytest.raises(RunbookError, match="policy own of the source names 'audit_log_archive' itself"):
        policy.moved("audit_log", "audit_log_archive")


def test_names_that_need_quotes():
    policy = replace(OWN, using='(EXISTS ( SELECT 1 FROM x WHERE ("Odd ""t""".id = x.id)))')
    assert policy.moved('Odd "t"', "new").condition("new") == policy.condition('Odd "t"')


def test_what_is_alike_or_stricter_is_no_opening():
    assert rules.openings(ALIKE) == []
    assert rules.openings(replace(ALIKE, archive_access=replace(HERE, policies=(NEVER,)))) == []
    shut = replace(OWN, name="none", roles=(rules.PUBLIC,), using="false")
    assert rules.openings(replace(ALIKE, archive_access=replace(HERE, policies=(shut, NEVER)))) == []
    assert rules.openings(replace(ALIKE, source_access=rules.Access("app"))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row_security": False}, "row security is off"),
        ({"policies": (replace(OWN, using="true"), NEVER)}, "policy own for anon shows them other rows"),
        ({"policies": (replace(OWN, using=None), NEVER)}, "policy own for anon shows them other rows"),
        ({"policies": (replace(OWN, roles=(rules.PUBLIC,)), NEVER)}, "policy own for everybody shows them other rows"),
        ({"policies": (replace(OWN, roles=("anon", "other")), NEVER)}, "policy own for anon, other"),
        ({"policies": (OWN,)}, "policy never for everybody is missing"),
        ({"policies": (OWN, replace(NEVER, roles=("anon",)))}, "policy never for everybody is missing"),
        ({"policies": (OWN, replace(NEVER, command="w"))}, "policy never for everybody is missing"),
    ],
)
def test_ways_of_row_security(change, words):
    found = replace(ALIKE, archive_access=replace(HERE, **change))
    (way,) = rules.openings(found)
    assert words in str(way)
    said = rules.more_open(found, [way], ["FIX"])
    assert said.endswith("FIX.")
    assert "more open than public.audit_log" in said


def test_ways_of_rights_and_owners():
    leaf = QualifiedName("public", "leaf")
    wider = (rules.Right(ARCHIVE, rules.PUBLIC, ("SELECT", "UPDATE")), rules.Right(leaf, "anon", ("SELECT",), "ip"))
    found = replace(ALIKE, wider=wider, bare=(leaf,), archive_access=replace(HERE, owner="robot"), owner_sees=False)
    said = rules.more_open(found, rules.openings(found), [])
    for words in (
        "everybody may SELECT, UPDATE",
        "anon may SELECT (ip) on public.leaf",
        "belongs to robot",
        "row security is off, so whoever may SELECT sees all rows on public.leaf",
    ):
        assert words in said
    assert rules.openings(replace(found, wider=(), bare=(), owner_sees=True)) == []
    forced = replace(ALIKE, source_access=replace(HERE, forced=True))
    assert [way.kind for way in rules.openings(forced)] == ["forced"]


def test_a_right_to_grant_and_who_granted_it_are_said():
    right = rules.Right(ARCHIVE, "anon", ("SELECT",), option=True)
    assert str(right) == "anon may grant SELECT to others"
    assert str(replace(right, option=False, by="robot")) == "anon may SELECT, granted by robot"


def test_an_owner_who_cannot_read_its_history_is_told():
    assert rules.unreadable(ALIKE) is None
    said = rules.unreadable(replace(ALIKE, readable=False, archive_access=replace(HERE, owner="robot"))) or ""
    assert "belongs to robot, and app, the owner of public.audit_log, may not read it" in said
