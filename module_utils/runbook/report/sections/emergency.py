"""Who is told in an emergency, whether messages reach them, and what is learned from it."""

from __future__ import annotations

from ansible.module_utils.runbook.report.section import Section

SECTIONS = (
    Section(modules=("emergency_contact_check",), title="Emergency contacts"),
    Section(modules=("emergency_contact_test",), title="Test messages to emergency contacts"),
    Section(modules=("emergency_contact_confirm",), title="Test messages that arrived"),
    Section(modules=("incident_review",), title="Post-incident review"),
    Section(modules=("incident_review_remind",), title="Reminders of post-incident reviews"),
    Section(modules=("incident_review_info",), title="Post-incident reviews"),
)
