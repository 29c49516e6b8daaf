"""What a user who is no superuser can restore."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.backup import restore_rights
from ansible.module_utils.runbook.rules.backup.manifest import Extension
from ansible.module_utils.runbook.rules.backup.restore_rights import Rights
from ansible.module_utils.runbook.rules.supabase import managed

#: As pg_restore --list shows a small database.
LISTED = """;
; Archive created at 2026-11-23
5; 2615 2200 SCHEMA - public pg_database_owner
3900; 0 0 ACL - SCHEMA public pg_database_owner
6; 2615 16400 SCHEMA - clinic owner of all
2; 3079 16401 EXTENSION - pgcrypto 
3901; 0 0 COMMENT - EXTENSION pgcrypto 
3; 3079 16402 EXTENSION - pgstattuple 
3902; 0 0 COMMENT - EXTENSION pgstattuple 
220; 1259 16410 TABLE clinic notes owner of all
3903; 0 0 ACL clinic TABLE notes owner of all
221; 1259 16411 TABLE public plans app
3904; 0 0 ACL public FUNCTION crypt(text, text) postgres
3300; 2606 16420 CONSTRAINT public plans plans_pkey app
"""  # noqa: W291 - who owns an extension is not said


def rights(version: int = 170004, members_of: tuple[str, ...] = ("restorer", "app", "owner of all")) -> Rights:
    """A user who is a member of the owners."""
    return Rights("restorer", version, members_of, {"restorer", "app", "owner of all", "postgres", "all"})


def entries(more: str = "") -> list[managed.Entry]:
    """The entries of the archive, and more."""
    return managed.read_list(LISTED + more, {"clinic", "public"})


def test_schemas_and_their_privileges_come_first_and_the_rest_is_there_once() -> None:
    selection, problems = restore_rights.select(entries(), rights(), scratch=False, without=["pgstattuple"])
    assert problems == []
    assert [each.line.partition(";")[0] for each in selection.schemas] == ["5", "3900", "6"]
    assert [each.line.partition(";")[0] for each in selection.rest] == ["2", "3901", "220", "3903", "221", "3300"]
    # pgcrypto belongs to whom the server gives it, and what was granted on it is not this user's to grant.
    assert selection.left_out == ["the acl of FUNCTION public crypt(text, text), an extension's"]


def test_who_gets_an_object_has_to_be_allowed_to_make_one_there() -> None:
    selection, _ = restore_rights.select(entries(), rights(), scratch=False)
    assert restore_rights.makers(selection.rest, "restorer") == [("clinic", "owner of all"), ("public", "app")]
    publication = managed.read_list("9; 6104 16500 PUBLICATION - changes app")
    assert restore_rights.makers(publication, "restorer") == [("", "app")]


def test_an_owner_that_nobody_can_give_objects_to_is_named_before_anything_is_made() -> None:
    _, problems = restore_rights.select(entries(), rights(members_of=("restorer", "app")), scratch=True)
    assert len(problems) == 1
    assert "cannot give objects to owner of all, who owns 1 schema (clinic), 1 table (clinic.notes);" in problems[0]
    assert "db_roles.yml" in problems[0]


@pytest.mark.parametrize(
    "line",
    [
        "1; 2753 1 OPERATOR FAMILY public mine app", "1; 2616 1 OPERATOR CLASS public mine app",
        "1; 2328 1 FOREIGN DATA WRAPPER - mine app", "1; 2612 1 PROCEDURAL LANGUAGE - pltcl app",
        "1; 3601 1 TEXT SEARCH PARSER public mine app", "1; 2601 1 ACCESS METHOD - heap2 app",
        "1; 1247 1 SHELL TYPE public box3d app",
    ],
)  # fmt: skip
def test_what_only_a_superuser_makes_is_refused_in_a_proof_too(line: str) -> None:
    for scratch in (True, False):
        _, problems = restore_rights.select(entries(line), rights(), scratch=scratch)
        assert len(problems) == 1
        assert problems[0].startswith("only a superuser can make")


@pytest.mark.parametrize("line", ["1; 3466 1 EVENT TRIGGER - ddl app", "1; 6100 1 SUBSCRIPTION - from_old app"])
def test_what_holds_no_rows_and_acts_by_itself_is_left_out_of_a_proof_alone(line: str) -> None:
    selection, problems = restore_rights.select(entries(line), rights(), scratch=True)
    assert problems == []
    assert len(selection.left_out) == 2
    assert restore_rights.select(entries(line), rights(), scratch=False)[1]


def test_before_15_the_schema_public_is_a_superusers() -> None:
    old = rights(140010)
    selection, problems = restore_rights.select(entries(), old, scratch=True)
    assert problems == []
    assert "the acl of the schema public" in selection.left_out
    assert "before PostgreSQL 15" in restore_rights.select(entries(), old, scratch=False)[1][0]
    # Where nobody changed it, there is nothing to bring back.
    untouched = [each for each in entries() if "public pg_database_owner" not in each.line]
    untouched += managed.read_list("5; 2615 2200 SCHEMA - public postgres")
    assert restore_rights.select(untouched, old, scratch=False)[1] == []


def test_extensions_that_nothing_needs_are_left_to_a_superuser_with_the_statement() -> None:
    there = [Extension("pgstattuple", "1.5", "runbook"), Extension("postgis", "3.5", "public")]
    assert restore_rights.lacking(there, {"pgstattuple", "postgis"}) == ("pgstattuple",)
    assert restore_rights.lacking(there, ()) == ()
    assert restore_rights.statements(there, ["pgstattuple"]) == ['CREATE EXTENSION "pgstattuple" SCHEMA "runbook"']
