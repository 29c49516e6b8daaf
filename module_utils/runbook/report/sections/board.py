"""The board, and the evidence of a quarter."""

from __future__ import annotations

from ansible.module_utils.runbook.report.section import Listing, Section

SECTIONS = (
    Section(modules=("board_collect",), title="Records of other places", figures=("collected",)),
    Section(
        modules=("evidence_archive", "evidence_verify"),
        title="Evidence of a quarter",
        named_by=("quarter",),
        figures=("archive", "records", "sha256", "public_key_sha256"),
        listings=(
            Listing(
                "bullets",
                "By bullet of the runbook",
                {"section": "Section", "task": "Task", "state": "State", "runs": "Runs", "gaps": "Not done"},
            ),
        ),
    ),
)
