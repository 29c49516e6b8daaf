#!/usr/bin/python
"""Ansible module web_baseline: keep what a good run measured."""

from __future__ import annotations

DOCUMENTATION = r"""
module: web_baseline
short_description: Keep what a good run measured of an application
description:
  - Writes the figures of pages and the sizes of chunks into the state store, for the next run to be compared with. A
    result that is not V(ok) is refused, and so is a page that was looked at fewer than three times.
  - A chunk keeps the least size that it ever had. A page keeps of each figure what it was in the first good run, until
    one is clearly better; a page that was not looked at keeps its figures.
options:
  name:
    description:
      - Name of the application.
    type: str
    required: true
  pages:
    description:
      - Result of M(lighthouse_info).
    type: dict
    required: true
  bundle:
    description:
      - Result of M(bundle_info).
    type: dict
    required: true
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: Tells what would be kept, and writes nothing.
  diff_mode:
    support: none
    description: The figures are in the results of the two modules.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Keep what was measured
  web_baseline:
    name: mental-scribe
    pages: "{{ web_performance_pages_seen }}"
    bundle: "{{ web_performance_bundle_seen }}"
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
msg: {description: "What was kept, in one sentence.", returned: always, type: str}
status: {description: V(ok)., returned: success, type: str}
kept_pages: {description: Number of pages., returned: success, type: int}
kept_chunks: {description: Number of chunks., returned: success, type: int}
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.web import baseline
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.state_store import Reading


def core(context: Context) -> dict[str, Any]:
    """Write the document."""
    params = context.params
    permits.require_approval(context.run)
    documents = Documents.from_params(params, context.run)
    name = params["name"]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    body: dict[str, Any] = {}

    def act(found: Reading) -> dict[str, Any]:
        before = found.document.body if found.document else None
        body.update(baseline.body(name, params["pages"], params["bundle"], now, before))
        return body

    documents.update(baseline.document_name(name), act)
    verb = "would be kept" if context.check_mode else "are kept"
    kept = f"{count(len(body['pages']), 'page')} and {count(len(body['chunks']), 'chunk')}"
    return {
        "changed": True,
        "msg": f"{name}: figures of {kept} {verb}; the next run is compared with them.",
        "kept_pages": len(body["pages"]),
        "kept_chunks": len(body["chunks"]),
    }


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    result = {"type": "dict", "required": True}
    return state_store.argument_spec() | {
        "name": {"type": "str", "required": True},
        "pages": result,
        "bundle": result,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="web_baseline", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
