"""Whether a database is whole."""

from __future__ import annotations

from ansible.module_utils.runbook.report.section import Section

SECTIONS = (Section(modules=("pg_integrity",), title="Integrity", figures=("duration_s",)),)
