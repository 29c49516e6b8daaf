#!/usr/bin/env python3
"""Write the checklists of a change, and which operation needs which line, into the page that people read.

.venv/bin/python tools/render_checklists.py
"""

from __future__ import annotations

import re
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.runbook.rules.change.checklist import LINES, OPERATIONS, PHASES, needed  # noqa: E402 - as above

PAGE = ROOT / "docs" / "howto" / "change.md"
_PART = re.compile(r"(<!-- (\w+): .*? -->\n).*?(<!-- end -->)", re.DOTALL)


def checklists() -> str:
    """The lines of each phase."""
    made = []
    for phase, title in PHASES.items():
        made += [f"**{title}**", "", "| line | what is done | proof | where it fails |", "|---|---|---|---|"]
        for name, line in LINES.items():
            if line.phase == phase:
                each = ", for each database" if line.is_per_host else ""
                fails = "nothing goes on" if line.blocks else "the work goes on, the run ends red"
                comes = f"; comes with `{line.ends}`" if line.ends else ""
                made.append(f"| `{name}` | {line.text}{each} | {line.proof} | {fails}{comes} |")
        made.append("")
    return "\n".join(made)


def operations() -> str:
    """Which operation needs which line, where the inventory does not decide otherwise."""
    needs = {operation: needed(operation, "production", {}) for operation in OPERATIONS}
    rows = [
        f"| `{name}` | {' | '.join('yes' if name in of_one else '' for of_one in needs.values())} |" for name in LINES
    ]
    head = [f"| | {' | '.join(f'`{operation}`' for operation in needs)} |", f"|---|{'---|' * len(needs)}"]
    return "\n".join([*head, *rows, ""])


def rendered(page: str) -> str:
    """The page with both tables as the rules have them."""
    made = {"checklists": checklists, "operations": operations}
    return _PART.sub(lambda found: f"{found[1]}\n{made[found[2]]()}\n{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
