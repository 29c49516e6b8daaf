"""Documents of drills, damaged ones too."""

from __future__ import annotations

import drill_samples as samples
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import documents


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"status": "green"}, "status is 'green'"),
        ({"status": None}, "status is None"),
        ({"outage_at": "yesterday"}, "outage_at is 'yesterday'"),
        ({"outage_at": "2026-03-01T02:00:00"}, "outage_at is"),
        ({"phases": [{"name": "detect"}]}, r"phases\[0\].started_at is missing"),
        ({"phases": ["detect"]}, r"phases\[0\] is no mapping"),
        ({"measured": {"rto_s": "fast"}}, "measured.rto_s is 'fast'"),
        ({"measured": {"rto_s": True}}, "measured.rto_s is True"),
        ({"measured": {"rpo_s": float("nan")}}, "measured.rpo_s is nan"),
        ({"recovery": {"skipped": ["b"]}}, r"recovery.skipped\[0\] is no mapping"),
        ({"attainable": {"rpo_s": "soon"}}, "attainable.rpo_s is 'soon'"),
        ({"files": {"asked": "no"}}, "files.asked is 'no'"),
        ({"objectives": {"rto_s": 0}}, "rto_s: 0"),
        ({"checks": {}}, "checks is {}"),
    ],
)
def test_a_damaged_document_is_refused_by_its_key(change, named):
    with pytest.raises(RunbookError, match=named):
        documents.read(samples.drill(**change), source="d.json")
