"""What a cleanup refuses by the catalog alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import cleanup
from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, ForeignKey, Index, Table

STAMP = "timestamp with time zone"
RULE = cleanup.Rule(QualifiedName("public", "sessions"), "expires_at", 7, 100)
TABLE = Table(
    RULE.table,
    "r",
    (Column("id", "bigint", "bigint"), Column("expires_at", STAMP, STAMP)),
    (Index("sessions_pkey", ("id",), unique=True, is_key=True, primary=True),),
    owner="app",
)
PLATFORM = ("supabase_admin", "supabase_auth_admin", "anon")
CASCADE = ForeignKey("k", "public.versions", "CASCADE")
NEED = cleanup.Need(RULE.table, ("expires_at", "id"), deletes=True)
ALONG = cleanup.Need(QualifiedName("public", "versions"), ("id",), deletes=False)


def judge(table, roles, user):
    cleanup.refuse(RULE, cleanup.require(RULE, table, [], roles), NEED, user)


def test_a_table_of_ones_own_may_be_cleaned_up_on_a_platform_too():
    judge(TABLE, PLATFORM, "postgres")
    judge(replace(TABLE, owner="supabase_admin"), (), "postgres")


def test_keys_and_times_are_all_that_has_to_be_readable():
    secret = Column("body", "text", "text", readable=False)
    judge(replace(TABLE, columns=(*TABLE.columns, secret), rights=frozenset({"USAGE", "DELETE"})), (), "maintain")


@pytest.mark.parametrize(
    ("table", "roles", "says"),
    [
        (replace(TABLE, owner="supabase_admin"), PLATFORM, r"belongs to the platform \(supabase_admin\)"),
        (replace(TABLE, kind="v"), (), "is a view or a foreign table"),
        (replace(TABLE, indexes=()), (), "has no primary key"),
        (replace(TABLE, subscriptions=("s",)), (), "is filled by a subscription"),
        (replace(TABLE, row_security=True), (), "row security hides rows from 'maintain'"),
        (
            replace(TABLE, rights=frozenset({"USAGE", "SELECT"})),
            (),
            "'maintain' lacks DELETE; run playbooks/db_roles.yml",
        ),
        (
            replace(TABLE, columns=(TABLE.columns[0], Column("expires_at", STAMP, STAMP, readable=False))),
            (),
            r"'maintain' lacks SELECT \(expires_at\); run",
        ),
        (
            replace(TABLE, referencing_keys=(ForeignKey("k", "public.v", "RESTRICT"),)),
            (),
            "rows of public.v refer to it",
        ),
    ],
)
def test_what_is_refused(table, roles, says):
    with pytest.raises(RunbookError, match=says):
        judge(table, roles, "maintain")


def test_a_cascade_takes_nothing_along_that_has_to_be_kept():
    child = replace(TABLE, name=QualifiedName("public", "versions"))
    cleanup.refuse_cascade(RULE, child, CASCADE, ALONG, kept=[], held=[])
    for kept, held in ((["public.versions"], []), ([], ["public.versions"])):
        with pytest.raises(RunbookError, match="is under a legal hold or kept"):
            cleanup.refuse_cascade(RULE, child, CASCADE, ALONG, kept=kept, held=held)
    for unseen in (None, replace(child, row_security=True), replace(child, rights=frozenset())):
        with pytest.raises(RunbookError, match="this role cannot count these"):
            cleanup.refuse_cascade(RULE, unseen, CASCADE, ALONG, kept=[], held=[])


def test_a_cascade_without_an_index_is_told_with_its_fix():
    need = cleanup.Need(QualifiedName("public", "versions"), ("note", "part"), deletes=False)
    child = replace(TABLE, name=need.table)
    (said,) = cleanup.without_index(RULE, child, need)
    assert said.endswith("CREATE INDEX CONCURRENTLY ON public.versions (note, part).")
    for columns, slow in (
        (("part", "note", "at"), 0),
        (("note", "part"), 0),
        (("note",), 1),
        (("at", "note", "part"), 1),
    ):
        assert len(cleanup.without_index(RULE, replace(child, indexes=(Index("i", columns),)), need)) == slow


def test_a_cascade_that_a_rule_of_the_server_changes_is_refused():
    child = replace(TABLE, name=QualifiedName("public", "versions"), rules=("keep",))
    with pytest.raises(RunbookError, match=r"fire triggers or rules \(keep\)"):
        cleanup.refuse_cascade(RULE, child, CASCADE, ALONG, kept=[], held=[])


def test_a_partition_of_what_is_kept_is_kept_and_so_is_what_has_such_a_partition():
    related = [QualifiedName("public", "hits_2024")]
    cleanup.refuse_related("rules: public.hits", related, kept=["public.hits_2023"], held=[])
    for protected in ({"kept": ["public.hits_2024"], "held": []}, {"kept": [], "held": ["public.hits_2024"]}):
        with pytest.raises(RunbookError, match=r"its rows are rows of public\.hits_2024, too, which is under a legal"):
            cleanup.refuse_related("rules: public.hits", related, **protected)
    with pytest.raises(RunbookError, match=r"rows of public\.audit_log, too, which is a record of who did what"):
        cleanup.refuse_related("rules: public.al_1", [QualifiedName("public", "audit_log")], kept=[], held=[])


def test_the_cap_is_met_exactly():
    cleanup.refuse_many(RULE, 60, {"public.versions": 40})
    with pytest.raises(RunbookError, match=r"101 rows would be deleted, 41 rows of public\.versions included"):
        cleanup.refuse_many(RULE, 60, {"public.versions": 41})


@pytest.mark.parametrize("schema", ["pg_catalog", "information_schema", "auth", "storage", "runbook", "audit"])
def test_schemas_that_are_never_cleaned_up(schema):
    with pytest.raises(RunbookError, match=r"take the rule out\."):
        cleanup.read([{"table": f"{schema}.x", "column": "a", "older_than_days": 1}], kept=[], held=[])


def test_no_rule_is_no_cleanup():
    with pytest.raises(RunbookError, match="there is none, so nothing is cleaned up"):
        cleanup.read([], kept=[], held=[])
