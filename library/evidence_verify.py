#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_verify
short_description: Verify an archive of evidence
description:
  - Checks the signature of an archive that M(evidence_archive) made, and that each file is there and as it was signed.
options:
  archive:
    description: The archive.
    type: path
    required: true
  public_key:
    description:
      - A file with the public key in PEM that it must be signed with.
      - Without it the key in the archive is taken, which proves nothing of who made it; that is V(unknown).
    type: path
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify an archive
  evidence_verify:
    archive: /srv/evidence/evidence-production-2026Q4-0123456789ab.zip
    public_key: /etc/runbook/evidence.pem
"""

RETURN = r"""
msg: {description: One sentence., returned: always, type: str}
status: {description: "V(ok), V(breach), or V(unknown) without O(public_key).", returned: always, type: str}
checks: {description: What was checked., returned: always, type: list}
public_key_sha256: {description: Hash of the public key in the archive as DER., returned: always, type: str}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.board import archive as archives
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Check, sentence
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Verify it."""
    path, source = Path(context.params["archive"]), context.params["public_key"]
    key = None
    if source:
        try:
            key = archives.public_key(Path(source).read_bytes(), f"public_key: {source}")
        except OSError as error:
            raise RunbookError(f"public_key: {source} cannot be read: {error.strerror}.") from None
    files, found, wrong = archives.verify(path, key)
    checks = [Check.breach("contents", text, path.name) for text in wrong]
    if not wrong:
        checks = [Check.ok("contents", f"{count(files, 'file')} as they were signed.", path.name)]
    if key is None:
        said = f"Nobody said whose key {found} is; give public_key, the key that you were handed."
        checks.append(Check.unknown("key", said, path.name))
    return context.conclude(checks, msg=sentence(path.name, checks), public_key_sha256=found)


def main() -> None:
    """Run as an Ansible module."""
    spec = {"archive": {"type": "path", "required": True}, "public_key": {"type": "path"}}
    run_module(core, name="evidence_verify", argument_spec=spec)


if __name__ == "__main__":
    main()
