"""Supabase's own backups, and the restore that Supabase does."""

from __future__ import annotations

from ansible.module_utils.runbook.report.section import Listing, Section

_BACKUPS = Listing(
    "backups",
    "Daily backups",
    {"inserted_at": "Made", "status": "Status", "is_physical": "Physical", "id": "ID"},
)
SECTIONS = (
    Section(
        modules=("supabase_backup_info",),
        title="Supabase's own backups",
        figures=("project_status", "pitr_enabled", "earliest", "latest", "age_s"),
        listings=(_BACKUPS,),
    ),
    Section(
        modules=("supabase_restore", "supabase_restore_info", "supabase_restore_wait", "supabase_project_check"),
        title="Restore by Supabase",
        figures=("project_status", "plan", "earliest", "latest", "duration_s"),
        listings=(_BACKUPS,),
    ),
)
