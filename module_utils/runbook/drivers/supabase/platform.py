"""Whether a server is a managed platform's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.supabase.managed import SUPERUSER

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session


def is_project(session: Session) -> bool:
    """Whether the server is a managed project, and this user is not the platform's superuser."""
    return bool(
        session.query(
            "SELECT 1 AS found FROM pg_roles WHERE rolname = %s AND rolsuper"
            " AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
            (SUPERUSER,),
        )
    )
