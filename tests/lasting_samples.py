"""What modules found out, so that every metric which outlasts a run has a value."""

from __future__ import annotations

from typing import Any

import drill_samples
import record_samples as samples

MOMENT = "2026-03-01T02:00:02+00:00"
_TLS_MOMENTS = ("not_before", "not_after", "due_at", "critical_at")
#: Modules with figures that their sections make metrics of. Together they make all that there are.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "pg_backup",
        {
            "manifest": "mental_scribe/2026-03-01T02-00-01Z/manifest.json", "snapshot_at": MOMENT, "status": "ok",
            "size_bytes": 450_000_000, "dump_bytes": 1_900_000_000, "duration_s": 19.0,
        },
    ),
    (
        "pg_backup_verify",
        {"checks": [], "last_good_backup": MOMENT, "last_proof": {"proven_at": MOMENT, "status": "ok"}, "status": "ok"},
    ),
    (
        "pg_pitr_check",
        {
            "checks": [], "oldest_restorable": MOMENT, "newest_restorable": MOMENT, "backup_age_s": 1.0,
            "oldest_ready_s": 1.0, "gaps": [], "status": "ok",
        },
    ),
    ("s3_mirror", {"status": "ok"}),
    ("dr_drill_judge", {"drill": drill_samples.drill(), "status": "ok"}),
    ("pg_index_info", {"findings": [], "unknown": [], "status": "ok"}),
    (
        "tls_certificate_info",
        {
            "checks": [{"name": "certificate", "status": "ok", "msg": "", "subject": "site"}], "status": "ok",
            "addresses": [{"endpoint": "site", **dict.fromkeys(_TLS_MOMENTS, MOMENT)}],
        },
    ),
    (
        "key_info",
        {
            "checks": [{"name": "age", "status": "ok", "msg": "", "subject": "server"}], "status": "ok",
            "rotations": [{"name": "server", "phase": "", **dict.fromkeys(("created_at", "due_at"), MOMENT)}],
        },
    ),
    ("vercel_deployment_info", {"checks": [{"name": "served", "status": "ok", "msg": ""}], "status": "ok"}),
    ("log_archive", {"streams": [], "status": "ok"}),
    (
        "log_archive_verify",
        {
            "archives": 3, "last_archive_at": MOMENT, "streams": [{"stream": "app", "size_bytes": 9_000}],
            "checks": [], "status": "ok",
        },
    ),
    (
        "security_advisories_info",
        {
            "project": "web", "status": "ok",
            "advisories": [
                {"state": "open", "due_at": MOMENT},
                {"state": "waived", "waived_until": "2026-04-01", "id": "CVE-2026-1", "package": "next"},
            ],
        },
    ),
    ("incident_review_info", {"reviews": [{"id": "one", "due": "2026-03-08", "closing": None}], "status": "ok"}),
    ("apt_updates_check", {"waiting": [{"due_at": MOMENT}], "status": "ok"}),
    ("app_updates_info", {"outdated": [{"step": "major"}], "outdated_packages": 1, "status": "ok"}),
    (
        "lighthouse_info",
        {
            "pages": [
                {"name": "home", "figures": {"score": 0.97, "largest_contentful_paint_ms": 1500.0}, "good_runs": 3}
            ],
            "findings": [], "unknown": [], "status": "ok",
        },
    ),
    (
        "bundle_info",
        {
            "sums": {
                name: {"raw_bytes": 3000, "gzip_bytes": 1000, "brotli_bytes": 900}
                for name in ("initial_script", "initial_style", "lazy", "total")
            },
            "findings": [], "unknown": [], "status": "ok",
        },
    ),
    (
        "heap_growth_info",
        {"flows": [{"name": "notes", "growth_bytes": 0}], "findings": [], "unknown": [], "status": "ok"},
    ),
    ("asset_info", {"saved_bytes": 190_000, "findings": [], "unknown": [], "status": "ok"}),
    (
        "cdn_cache_info",
        {
            "classes": [{"name": "assets", "hit_rate": 0.97, "requests": 900}], "findings": [], "unknown": [],
            "status": "ok",
        },
    ),
    (
        "capacity_info",
        {
            "quantities": [
                {
                    "name": "disk", "now": 5e9, "limit": 8e9, "limit_p50_on": "2026-12-24", "limit_p90_on": None,
                }
            ],
            "findings": [], "unknown": [], "status": "ok",
        },
    ),
    (
        "sla_info",
        {
            "levels": [
                {
                    "name": "site", "objective_percent": 99.9, "availability_percent": 99.95, "coverage_percent": 100.0,
                    "with_planned_percent": 99.95, "budget_left_percent": 50.0, "why_not": "",
                }
            ],
            "findings": [], "unknown": [], "status": "ok",
        },
    ),
    (
        "incident_info",
        {
            "sources": [
                {
                    "source": "pagerduty",
                    "months": [{"month": "2026-02", "incidents": 7, "mtta_median_s": 60.0, "mttr_median_s": None}],
                }
            ],
            "findings": [], "unknown": [], "status": "ok",
        },
    ),
    ("dashboard_info", {"dashboards": [{"title": "Site", "panels": 3}], "findings": [], "unknown": [], "status": "ok"}),
)  # fmt: skip


def record(start_s: float = samples.START_S) -> dict[str, Any]:
    """A run with all of them."""
    sample = samples.Sample(start_s)
    for module, figures in STEPS:
        sample.step("Act", module, "db1", figures=figures)
    return samples.fold(sample.end(db1={}).events)
