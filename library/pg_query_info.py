#!/usr/bin/python
"""Ansible module pg_query_info: which queries cost the server most."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_query_info
short_description: Tell which queries cost the server most
description:
  - Reads the extension C(pg_stat_statements), and returns the heaviest statements of this database by time in all, by
    time of a call, by temporary files and by WAL, with their shares of the whole.
  - A query that takes long on average is a finding, and one that sorts on disk.
  - The counters are kept in the run's record. Where an earlier run beside it kept those of the same database, and
    nothing was reset since, the figures are those of the time between; else those since the last reset.
  - No literal and no comment is shown, of no statement. What pg_stat_statements left of them is masked.
  - Without the extension, or without rights to see the statements of others, it is unknown, with the fix.
  - Needs the rights of C(pg_read_all_stats). Changes nothing.
options:
  top:
    description:
      - How many statements are returned by each measure.
    type: int
    default: 10
  slow_ms:
    description:
      - Mean milliseconds of a call from which a query is slow. What was called less than ten times is not judged.
    type: int
    default: 500
  min_window_s:
    description:
      - An earlier run is compared with only if it is at least so many seconds old.
    type: int
    default: 3600
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: The same in check mode, since it only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Tell which queries cost most
  pg_query_info:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
  register: queries

- name: Call a query slow from 100 ms on
  pg_query_info:
    dsn: "{{ db_dsn }}"
    slow_ms: 100
    top: 25
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "1 finding (1 warning) in 412 statements that took 5,210.4 s since 2026-03-01 02:00 UTC:
    slow_query:-3820147239."
status:
  description: V(ok), or V(unknown) where there is no pg_stat_statements or statements of others are hidden.
  type: str
  returned: always
findings:
  description: Slow queries (V(slow_query)) and those that write large temporary files (V(query_spills)), the worst
    first; in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be judged, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
queries:
  description: The heaviest statements, by whatever measure; first those that took most time in all.
  type: list
  elements: dict
  returned: always
  contains:
    query_id:
      description: As in pg_stat_statements.
      type: str
    query:
      description: The statement without literals and comments, at most 2,000 characters of it.
      type: str
    calls:
      description: How often it was called.
      type: int
    total_ms:
      description: Time of all calls in milliseconds, without planning.
      type: float
    total_percent:
      description: The same as a share of all statements.
      type: float
    mean_ms:
      description: Time of a call in milliseconds.
      type: float
    rows_per_call:
      description: Rows read or written in a call.
      type: float
    cache_hit_percent:
      description: Share of its page reads that the cache answered; null where it read none.
      type: float
    read_bytes:
      description: Bytes asked of the operating system.
      type: int
    temp_bytes:
      description: Bytes written to temporary files.
      type: int
    temp_percent:
      description: The same as a share of all statements.
      type: float
    wal_bytes:
      description: Bytes of WAL written.
      type: int
    wal_percent:
      description: The same as a share of all statements.
      type: float
heaviest:
  description: The query_ids of the heaviest by C(total), C(mean), C(temp) and C(wal), the heaviest first.
  type: dict
  returned: always
statements:
  description: How many statements were called.
  type: int
  returned: always
calls:
  description: How many calls that were.
  type: int
  returned: always
total_ms:
  description: Time of all of them in milliseconds.
  type: float
  returned: always
since:
  description: When the time began that the figures are about; null where nobody knows.
  type: str
  returned: always
window_s:
  description: Seconds since then.
  type: float
  returned: always
compared_with:
  description: Name of the earlier run; null where the figures are those since the last reset.
  type: str
  returned: always
was_reset:
  description: Whether the counters were reset since the earlier run.
  type: bool
  returned: always
evicted:
  description: How often statements were thrown out since the last reset because C(pg_stat_statements.max) left no room;
    null where nobody knows.
  type: int
  returned: always
identity:
  description: Number of the server and of the database, so that a later run compares like with like; null without
    pg_stat_statements.
  type: str
  returned: always
at:
  description: The server's clock at the reading.
  type: str
  returned: always
reset_at:
  description: When pg_stat_statements was reset last; null where nobody knows.
  type: str
  returned: always
counters:
  description: For the next run, by query_id, the calls, milliseconds, rows, pages hit, pages read, temporary pages and
    bytes of WAL since the last reset, of the statements that matter.
  type: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import records
from ansible.module_utils.runbook.drivers.postgres import postgres, queries
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.postgres import queries as rule
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from datetime import datetime

STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 200
NAME = "pg_query_info"


def core(context: Context) -> dict[str, Any]:
    """Read, compare, weigh."""
    params, started = context.params, time.monotonic()
    context.require_bounds({"top": (1, 100), "slow_ms": (1, 86_400_000), "min_window_s": (0, 86_400 * 366)})
    target = postgres.Target.from_params(params)
    with (
        postgres.explained(target),
        postgres.Session(
            target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="query_info"
        ) as session,
    ):
        reading = queries.read(session)
        look = reading.look
        compared_with, earlier = _earlier(context, look)
        window = rule.Window({}, None, compared=False, was_reset=False) if look is None else rule.window(look, earlier)
        heaviest = rule.heaviest(window, params["top"])
        wanted = list(dict.fromkeys(one for of_measure in heaviest.values() for one in of_measure))
        texts = queries.texts(session, reading.schema, wanted) if wanted else {}
    whole = window.whole()
    entries = [
        rule.describe(one, rule.masked(texts[one]), window.statements[one], whole) for one in wanted if one in texts
    ]
    result = findings.results(
        rule.judge(entries, slow_ms=params["slow_ms"]),
        _unknown(reading),
        of=f"{count(len(window.statements), 'statement')} that took {whole.total_ms / 1000:,.1f} s{_since(window)}",
    )
    result |= {
        "queries": sorted(entries, key=lambda entry: -entry["total_ms"]),
        "heaviest": heaviest,
        "statements": len(window.statements),
        "calls": whole.calls,
        "total_ms": round(whole.total_ms, 3),
        "since": _moment(window.since),
        "window_s": None
        if look is None or window.since is None
        else round((look.at - window.since).total_seconds(), 3),
        "compared_with": compared_with if window.compared else None,
        "was_reset": window.was_reset,
        "evicted": reading.evicted,
        "identity": None if look is None else look.identity,
        "at": None if look is None else _moment(look.at),
        "reset_at": None if look is None else _moment(look.reset_at),
        "counters": {} if look is None else rule.kept(look),
        "duration_s": round(time.monotonic() - started, 3),
    }
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


def _earlier(context: Context, look: rule.Look | None) -> tuple[str | None, rule.Look | None]:
    """The newest look of the same database that is old enough, and the run that it comes from."""
    if look is None:
        return None, None
    for name, figures in records.earlier(context.run.directory, NAME):
        earlier = queries.look_of(figures)
        if earlier is None or earlier.identity != look.identity:
            continue
        if (look.at - earlier.at).total_seconds() >= context.params["min_window_s"]:
            return name, earlier
    return None, None


def _unknown(reading: queries.Reading) -> list[Unknown]:
    if reading.reason is not None:
        return [Unknown("slow_query", reading.reason)]
    if reading.hidden:
        return [
            Unknown(
                "slow_query",
                f"{count(reading.hidden, 'call of another user is', 'calls of other users are')} hidden from this "
                "user: GRANT pg_read_all_stats to it.",
            )
        ]
    return []


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _since(window: rule.Window) -> str:
    return "" if window.since is None else f" since {window.since:%Y-%m-%d %H:%M %Z}"


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name=NAME,
        argument_spec=postgres.argument_spec()
        | {
            "top": {"type": "int", "default": 10},
            "slow_ms": {"type": "int", "default": 500},
            "min_window_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
