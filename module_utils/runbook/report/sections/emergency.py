"""Who is told in an emergency, and whether messages reach them."""

from __future__ import annotations

from ansible.module_utils.runbook.report.section import Section

SECTIONS = (
    Section(modules=("emergency_contact_check",), title="Emergency contacts"),
    Section(modules=("emergency_contact_test",), title="Test messages to emergency contacts"),
    Section(modules=("emergency_contact_confirm",), title="Test messages that arrived"),
)
