"""What Supabase's own advisors say of a project, as findings beside ours.

An advisor answers with lints. What it could not check it reports as a lint too, with a name of its own; that is no
finding, and no reason to call the project well. A lint carries no statement that is safe to run, so none is shown: its
remediation is a page of Supabase's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Severity, Unknown, finding_id
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.status import Status

Category = Literal["performance", "security"]

#: Names that version 2 of the API has to be asked for one by one, by category (its schema, and that of version 1).
LINTS: Mapping[Category, tuple[str, ...]] = {
    "performance": (
        "unindexed_foreign_keys", "auth_rls_initplan", "no_primary_key", "unused_index", "multiple_permissive_policies",
        "duplicate_index",
    ),
    "security": (
        "auth_users_exposed", "policy_exists_rls_disabled", "rls_enabled_no_policy", "security_definer_view",
        "function_search_path_mutable", "rls_disabled_in_public", "extension_in_public", "rls_references_user_metadata",
        "materialized_view_in_api", "foreign_table_in_api", "unsupported_reg_types", "auth_otp_long_expiry",
        "auth_otp_short_length", "ssl_not_enforced", "network_restrictions_not_set", "password_requirements_min_length",
        "pitr_not_enabled", "auth_leaked_password_protection", "auth_insufficient_mfa_options",
        "auth_password_policy_missing", "leaked_service_key", "no_backup_admin", "vulnerable_postgres_version",
    ),
}  # fmt: skip
#: Results that say that nothing was checked.
UNCHECKED = frozenset({"advisor_check_unavailable", "project_not_active"})
#: A level that is not known is shown as a warning: it may be worse than INFO.
_SEVERITIES: Mapping[str, Severity] = {"ERROR": "critical", "WARN": "warning", "INFO": "info"}
#: A sentence of Supabase's may be long; the page that it names has all of it.
_MAX_TEXT = 400
_NEEDED = ("name", "title", "level", "detail", "remediation", "cache_key")


@dataclass(frozen=True)
class Lint:
    """One thing that an advisor says."""

    name: str
    title: str
    level: str
    #: One or two sentences on this object.
    detail: str
    #: Address of the page with the fix.
    remediation: str
    #: Names this lint on this object, the same from run to run.
    cache_key: str
    #: The object that it is about; None where it is the project.
    object: QualifiedName | None


def parse(body: Any) -> list[Lint]:
    """Read the answer of an advisor, of either version of the API.

    :raises RunbookError: a field that is needed is missing
    """
    data = body.get("data") if isinstance(body, Mapping) else None
    within = data.get("attributes") if isinstance(data, Mapping) else body
    found = within.get("lints") if isinstance(within, Mapping) else None
    if not isinstance(found, list):
        raise _strange("lints")
    lints = []
    for one in found:
        for name in _NEEDED:
            if not isinstance(one, Mapping) or not isinstance(one.get(name), str):
                raise _strange(name)
        name, title, level, detail, remediation, cache_key = (_line(one[key]) for key in _NEEDED)
        lints.append(Lint(name, title, level, detail, remediation, cache_key, _object(one.get("metadata"))))
    return lints


def _object(metadata: Any) -> QualifiedName | None:
    if not isinstance(metadata, Mapping):
        return None
    schema, name = metadata.get("schema"), metadata.get("name")
    return QualifiedName(schema, name) if isinstance(schema, str) and isinstance(name, str) and schema else None


def _strange(name: str) -> RunbookError:
    return RunbookError(
        f"Supabase's answer about its advisors has no field {name} of the expected kind; its API may have changed: "
        "nothing was judged.",
        status=Status.UNKNOWN,
    )


def _line(text: str) -> str:
    """On one line, without the marks of Markdown, at most so long."""
    plain = " ".join(re.sub(r"\\?`", "", text).split())
    return plain if len(plain) <= _MAX_TEXT else f"{plain[: _MAX_TEXT - 1]}…"


def findings(lints: Iterable[Lint]) -> list[Finding]:
    """What the advisors found; without what they could not check."""
    made = {}
    for lint in lints:
        if lint.name not in UNCHECKED:
            made[lint.cache_key] = Finding(
                id=finding_id("supabase", lint.cache_key),
                kind=f"supabase_{lint.name}",
                severity=_SEVERITIES.get(lint.level, "warning"),
                object=str(lint.object) if lint.object else "the project",
                evidence={"title": lint.title, "level": lint.level, "cache_key": lint.cache_key},
                msg=lint.detail,
                risk=f"Supabase names the fix, and no statement: {lint.remediation}",
            )
    return list(made.values())


def unknown(lints: Iterable[Lint]) -> list[Unknown]:
    """What the advisors could not check, and why."""
    said = sorted({(lint.name, f"{lint.title}: {lint.detail}") for lint in lints if lint.name in UNCHECKED})
    return [Unknown(f"supabase_{name}", text) for name, text in said]
