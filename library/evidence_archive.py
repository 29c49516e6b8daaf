#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_archive
short_description: Archive a quarter's records as signed evidence
description:
  - Puts the records of all runs of a quarter into one ZIP, those beside this run and the copies in the state store,
    with an index by the runbook's bullets. Each bullet has its runs, how they ended, what people decided, and the
    periods in which it has a rhythm and was not done.
  - C(SHA256SUMS) in it names each file with its hash, and C(SHA256SUMS.sig) is its Ed25519 signature, so that openssl
    and sha256sum verify it.
  - The archive's name holds a hash of its contents. A second run with the same records makes the same archive and
    changes nothing; no archive is ever overwritten.
  - A run that the board in the state store knows, and of which nobody has a record, is missing.
  - Records that are damaged, missing or hold what looks like a secret are named, in the archive too, and left out.
  - Runs of C(evidence) and C(board), and runs in check mode, are no work, and are left out.
options:
  quarter:
    description: The quarter, as V(2026Q4). One that is not over yet is archived as far as it came.
    type: str
    required: true
  dest:
    description: A folder for the archives; it must exist.
    type: path
    required: true
  signing_key:
    description: A private Ed25519 key in PEM, as C(openssl genpkey -algorithm ed25519) makes it.
    type: str
    required: true
  environment:
    description: What the inventory is. Only its records are archived.
    type: str
    required: true
  runbook:
    description: The map of the runbook, whose bullets are the index.
    type: path
    required: true
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: It reads and judges everything, and writes nothing.
  diff_mode:
    support: none
    description: It adds a file.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Archive the evidence of the quarter
  evidence_archive:
    quarter: 2026Q4
    dest: /srv/evidence
    signing_key: "{{ evidence_signing_key }}"
    environment: production
    runbook: "{{ playbook_dir }}/../docs/runbook.md"
    state_directory: /var/lib/runbook/state
"""

RETURN = r"""
msg: {description: One sentence with the figures., returned: always, type: str}
status:
  description:
    - V(ok), V(breach) where a bullet that has a rhythm was not done in one of its periods, or V(unknown) where a record
      is missing or damaged.
  returned: always
  type: str
checks:
  description: Each bullet that was not done each time, and each record that is missing.
  returned: always
  type: list
quarter: {description: The quarter., returned: always, type: str}
archive: {description: The archive, returned: always, type: str}
sha256: {description: Its hash., returned: always, type: str}
public_key_sha256: {description: Hash of the public key as DER., returned: always, type: str}
public_key: {description: "The public key in PEM, line by line.", returned: always, type: list}
records: {description: Records in it., returned: always, type: int}
bullets:
  description:
    - Each bullet, with C(section), C(task), C(state), C(rhythm), C(runs) (how many) and C(gaps).
    - C(hosts_covered) have a good run in each period that is over; C(hosts_not_covered) lack one in the periods that
      are named, though others had it.
  returned: always
  type: list
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store, workspace
from ansible.module_utils.runbook.drivers.board import archive as archives
from ansible.module_utils.runbook.drivers.board import records as drivers
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import state
from ansible.module_utils.runbook.rules.board import evidence as rules
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Read, judge, write."""
    params, now = context.params, datetime.now(UTC)
    permits.require_environment(context.run, params["environment"])
    quarter = rules.Quarter.read(params["quarter"])
    key = archives.private_key(params["signing_key"])
    dest = Path(params["dest"])
    if not dest.is_dir():
        raise RunbookError(f"dest: {dest} is no folder; make it, or name another one.")
    try:
        bullets = rules.read_map(Path(params["runbook"]).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunbookError(f"runbook: {params['runbook']} cannot be read: {error.strerror}.") from None
    found, missing = _records(context, quarter)
    standings = rules.judge(bullets, list(found.values()), quarter, now)
    # Of the days behind the quarter, what belongs to its last week.
    named = {run["id"] for each in standings for run in each.runs}
    found = {
        run_id: record for run_id, record in found.items()
        if run_id in named or str(record["started_at"])[:10] < quarter.end.isoformat()
    }  # fmt: skip
    files = {f"records/{run_id}.json": _json(record) for run_id, record in found.items()}
    files["index.json"] = _json(
        {"schema_version": 1, "quarter": quarter.name, "environment": params["environment"], "missing": missing,
         "bullets": [each.result() for each in standings]}
    )  # fmt: skip
    files["index.html"] = rules.page(standings, missing, quarter, params["environment"], len(found)).encode()
    files["README.txt"] = rules.README.encode()
    whole = archives.signed(files, key)
    data, sums = archives.packed(whole), archives.digest(whole[archives.SUMS])
    path = dest / f"evidence-{params['environment']}-{quarter.name}-{sums[:12]}.zip"
    is_there = path.exists() and archives.digest(path.read_bytes()) == archives.digest(data)
    if path.exists() and not is_there:
        raise RunbookError(f"dest: {path} is there and was changed; look at who did it, and put it elsewhere.")
    if not (is_there or context.check_mode):
        workspace.write_bytes(path, data)
    checks = [Check.breach("bullet", _gaps(each), each.bullet.task) for each in standings if each.is_red]
    checks += [Check.unknown("record", f"Missing: {text}", text.partition(":")[0]) for text in missing]
    verb = "would hold" if context.check_mode and not is_there else "holds"
    return context.conclude(
        checks or Status.OK,
        msg=f"{path.name} {verb} {count(len(found), 'record')} of {quarter.name}; {_summary(checks)}",
        changed=not is_there,
        quarter=quarter.name,
        archive=str(path),
        sha256=archives.digest(data),
        public_key_sha256=archives.fingerprint(key.public_key()),
        public_key=whole[archives.PUBLIC].decode().splitlines(),
        records=len(found),
        bullets=[
            {name: value for name, value in each.result().items() if name not in ("run_ids", "said", "human_step")}
            for each in standings
        ],
    )


def _records(context: Context, quarter: rules.Quarter) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Records of the quarter by the ids of their runs, and what is missing."""
    params = context.params
    first, last = quarter.stamp(quarter.begin), quarter.stamp(quarter.last_week_end)
    runs = Path(context.run.directory or ".").parent
    own = context.run.id or ""
    found: dict[str, dict[str, Any]] = {}
    lost: dict[str, str] = {}
    read = {own}
    for folder, record in drivers.local(runs, first, last):
        read.add(str(record["run_id"]) if isinstance(record, dict) else folder)
        if not own.startswith(folder) and not _put(record, folder, params["environment"], found):
            lost[folder] = f"{folder}: {record}" if isinstance(record, str) else ""
    settings = {name: value for name, value in params.items() if name.startswith("state_")}
    store = state_store.from_settings(settings, params["environment"])
    for run_id, record in drivers.stored(store, found, first, last) if store is not None else ():
        read.add(run_id)
        if not _put(record, run_id, params["environment"], found):
            lost[run_id] = f"{run_id}: {record}" if isinstance(record, str) else ""
        context.progress.update("Read records", len(found), None, "records")
    for run_id, where in drivers.on_boards(store, first, last).items() if store is not None else ():
        playbook = run_id.partition("-")[2].rpartition("-")[0]
        if not read & {run_id, run_id.rpartition("-")[0]} and playbook not in rules.ABOUT_RECORDS:
            at = f" It was on {where}." if where else ""
            lost[run_id] = f"{run_id}: the board knows this run, and its record is neither here nor in the store.{at}"
    kept = {}
    for run_id in sorted(found):
        place = next(state.secret_places(found[run_id], "record"), None)
        if place is None:
            kept[run_id] = found[run_id]
        else:
            lost[run_id] = f"{run_id}: {place} looks like a secret, so it was left out"
    # What has a whole copy elsewhere is not missing.
    names = {run_id.rpartition("-")[0] for run_id in kept}
    return kept, sorted(text for name, text in lost.items() if text and name not in names)


def _put(record: dict[str, Any] | str, name: str, environment: str, found: dict[str, dict[str, Any]]) -> bool:
    """Keep a record of this inventory's work; False where it is none."""
    if isinstance(record, str):
        return False
    try:
        # Records of earlier versions say only what hosts proved to be, and of which inventory they are.
        said = record.get("environment")
        of = [said] if said else record["environments"] or [next((each for each in record["inventory"] or ()), "")]
        if record["check_mode"] or record["playbook"] in rules.ABOUT_RECORDS:
            return True
        if any(str(each).rstrip("/").rpartition("/")[2] == environment for each in of):
            found[str(record["run_id"])] = record
    except (KeyError, TypeError, AttributeError):
        raise RunbookError(f"{name}: its record lacks what each has; restore it, or move it away.") from None
    return True


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"


def _gaps(each: rules.Standing) -> str:
    head = f"{each.bullet.section}, {each.bullet.number}. {each.bullet.task}: "
    shown = ", ".join(each.gaps[:5]) + (f" and {count(len(each.gaps) - 5, 'more')[:-1]}" if len(each.gaps) > 5 else "")
    return f"{head}{each.state} ({shown})." if each.state == rules.GAPS else f"{head}{each.state}."


def _summary(checks: list[Check]) -> str:
    red = sum(each.status == Status.BREACH for each in checks)
    lost = len(checks) - red
    said = [f"{count(red, 'bullet')} not done each time"] * bool(red) + [f"{count(lost, 'record')} missing"] * bool(
        lost
    )
    return f"{', '.join(said) or 'everything that has a rhythm was done'}."


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    spec = {
        "quarter": text, "dest": path, "signing_key": text | {"no_log": True}, "environment": text, "runbook": path,
        **state_store.argument_spec(),
    }  # fmt: skip
    run_module(core, name="evidence_archive", argument_spec=spec)


if __name__ == "__main__":
    main()
