#!/usr/bin/python
"""Ansible module pg_index_info: what is wrong with a database's indexes and its health, each with its fix."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_index_info
short_description: Report problems of a database's indexes and of its health
description:
  - "Indexes: unused, duplicate, redundant, invalid, missing for a foreign key; big tables that are read from end to
    end."
  - "Health: tables near transaction id wraparound, keys whose numbers run out, sessions that stay in a transaction,
    forgotten prepared transactions, replication slots that hold WAL, checksum failures, the cache hit ratio, settings
    that hurt."
  - Each finding has its evidence, the exact statements that fix it, and what they cost. Nothing is applied.
  - Where the extension C(hypopg) is there and this user may execute it, the planner is asked what a proposed index
    would win.
  - What cannot be judged is listed as unknown, with what would make it known. A standby cannot tell which indexes are
    unused; neither can a primary whose standbys answer queries.
  - Needs C(pg_read_all_stats) to see the sessions of others, and SELECT on sequences and on keys that no sequence
    fills.
  - Changes nothing, and waits for no lock of others. Asks a dozen queries, however many tables there are.
options:
  unused_after_days:
    description:
      - Days without a scan, all of which the server's counters must cover, after which an index is unused. V(0) asks
        for no such proof.
    type: int
    default: 30
  min_size_bytes:
    description:
      - A smaller index is not called unused; a smaller table needs no index on its foreign keys, and may be read from
        end to end.
    type: int
    default: 8388608
  max_xid_age:
    description:
      - Age in transactions, or in multixacts, from which a table is near wraparound. PostgreSQL stops all writes at two
        thousand million.
    type: int
    default: 500000000
  max_key_percent:
    description:
      - Share of a key's numbers, or of a sequence's, from which it is near its end.
    type: int
    default: 75
  idle_transaction_s:
    description:
      - Seconds that a session may be idle in a transaction, and a prepared transaction may wait.
    type: int
    default: 300
  long_transaction_s:
    description:
      - Seconds that a transaction may last.
    type: int
    default: 3600
  slot_wal_bytes:
    description:
      - WAL that a replication slot may hold.
    type: int
    default: 1073741824
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
- name: Tell what is wrong with the indexes and the health of the database
  pg_index_info:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
  register: indexes

- name: Be stricter
  pg_index_info:
    dsn: "{{ db_dsn }}"
    min_size_bytes: 1048576
    max_key_percent: 50
    long_transaction_s: 600
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "2 findings (1 warning, 1 info) in 41 indexes of 27 tables: duplicate_index:public.messages.messages_copy_idx,
    unused_index:public.messages.messages_old_idx."
status:
  description:
    - V(breach) with a critical finding; V(unknown) where rights or a setting keep something from being judged; else
      V(ok).
  type: str
  returned: always
findings:
  description: What was found, the worst first, at most 50 of a kind.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: Names the finding, the same in every run; can be typed on a command line.
      type: str
    kind:
      description:
        - V(unused_index), V(duplicate_index), V(redundant_index), V(invalid_index), V(missing_foreign_key_index),
          V(sequential_scans), V(wraparound), V(wraparound_database), V(key_near_end), V(idle_transaction),
          V(long_transaction), V(prepared_transaction), V(replication_slot), V(checksum_failures), V(cache_hit_ratio),
          V(setting).
      type: str
    severity:
      description: V(critical), V(warning) or V(info).
      type: str
    object:
      description: What it is about.
      type: str
    evidence:
      description: Figures, with their units in their names.
      type: dict
    msg:
      description: One sentence with the figures.
      type: str
    ddl:
      description: The statements that fix it, in their order; empty where no statement does.
      type: list
      elements: str
    risk:
      description: What the statements cost or may break, or why there are none.
      type: str
    estimated:
      description: The planner's cost of the query in question before and after (C(cost_before), C(cost_after)), by
        HypoPG; null where nobody asked.
      type: dict
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be judged.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: The kind of finding that may be there all the same.
      type: str
    msg:
      description: Why, and what would make it known.
      type: str
    fixable:
      description: Whether rights or a setting would; false where only time or another server can tell.
      type: bool
tables:
  description: Tables and materialised views that were looked at.
  type: int
  returned: always
indexes:
  description: Indexes that were looked at.
  type: int
  returned: always
index_size_bytes:
  description: Size of all of them as far as it is known.
  type: int
  returned: always
counted_since:
  description: Since when the server's counters count, at the latest; null where nobody knows. An earlier run beside
    this one, of which the record is there, may have known it better.
  type: str
  returned: always
counted_days:
  description: How many days that are.
  type: float
  returned: always
counters_id:
  description: The same in two runs if nothing has made the counters start over in between.
  type: str
  returned: always
is_standby:
  description: Whether the server is a standby.
  type: bool
  returned: always
standbys:
  description: Standbys that are connected.
  type: int
  returned: always
cache_hit_percent:
  description: Share of page reads that PostgreSQL's cache answered; null where nothing was read.
  type: float
  returned: always
oldest_xid_age:
  description: Age of the oldest table in transactions.
  type: int
  returned: always
hypopg:
  description: Whether the planner was asked about proposed indexes.
  type: bool
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import indexes, postgres
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.postgres import health
from ansible.module_utils.runbook.rules.postgres import indexes as rule
from ansible.module_utils.runbook.rules.words import count

#: Longest look into the catalogs, and longest wait for a table's lock before it is left out.
STATEMENT_TIMEOUT_MS = 120_000
LOCK_TIMEOUT_MS = 200
#: More proposals than these are not put before the planner.
MAX_ESTIMATES = 50


def core(context: Context) -> dict[str, Any]:
    """Read, judge, ask the planner."""
    params, started = context.params, time.monotonic()
    context.require_bounds({
        "unused_after_days": (0, 3650),
        "min_size_bytes": (0, 1 << 50),
        "max_xid_age": (1, 2_000_000_000),
        "max_key_percent": (1, 100),
        "idle_transaction_s": (1, 10_000_000),
        "long_transaction_s": (1, 10_000_000),
        "slot_wal_bytes": (1, 1 << 50),
    })  # fmt: skip
    limits = health.Limits(
        xid_age=params["max_xid_age"],
        key_percent=params["max_key_percent"],
        idle_transaction_s=params["idle_transaction_s"],
        long_transaction_s=params["long_transaction_s"],
        slot_wal_bytes=params["slot_wal_bytes"],
    )
    target = postgres.Target.from_params(params)
    with (
        postgres.explained(target),
        postgres.Session(
            target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="index_info"
        ) as session,
    ):
        catalog, server = indexes.read(session, context.run.directory), indexes.read_server(session)
        quote = indexes.quoter(session)
        found, proposals, unknown = rule.judge(
            catalog, quote, unused_after_days=params["unused_after_days"], min_size_bytes=params["min_size_bytes"]
        )
        ailing, hidden = health.judge(catalog.tables.values(), server, quote, limits)
        schema = indexes.hypopg(session)
        for number, proposal in enumerate(proposals):
            estimate = None
            if schema is not None and number < MAX_ESTIMATES:
                estimate = indexes.hypothetical(session, schema, proposal.table, proposal.columns)
            found.append(rule.weighed(proposal.finding, estimate))
    counts = f"{count(len(catalog.indexes), 'index', 'indexes')} of {count(len(catalog.tables), 'table')}"
    result = findings.results([*found, *ailing], [*unknown, *hidden], of=counts)
    ages = [table.xid_age for table in catalog.tables.values() if table.xid_age is not None]
    result |= {
        "tables": len(catalog.tables),
        "indexes": len(catalog.indexes),
        "index_size_bytes": sum(index.size_bytes or 0 for index in catalog.indexes),
        "counted_since": None if catalog.counted_since is None else catalog.counted_since.isoformat(timespec="seconds"),
        "counted_days": catalog.days_counted(),
        "counters_id": catalog.counters_id,
        "is_standby": catalog.is_standby,
        "standbys": catalog.standbys,
        "cache_hit_percent": health.cache_hit_percent(server),
        "oldest_xid_age": max(ages, default=None),
        "hypopg": schema is not None,
        "duration_s": round(time.monotonic() - started, 3),
    }
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_index_info",
        argument_spec=postgres.argument_spec()
        | {
            "unused_after_days": {"type": "int", "default": 30},
            "min_size_bytes": {"type": "int", "default": 8_388_608},
            "max_xid_age": {"type": "int", "default": 500_000_000},
            # A primary key, and no secret, as no_log has to say to those who go by the name.
            "max_key_percent": {"type": "int", "default": 75, "no_log": False},
            "idle_transaction_s": {"type": "int", "default": 300},
            "long_transaction_s": {"type": "int", "default": 3600},
            "slot_wal_bytes": {"type": "int", "default": 1_073_741_824},
        },
    )


if __name__ == "__main__":
    main()
