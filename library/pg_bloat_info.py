#!/usr/bin/python
"""Ansible module pg_bloat_info: how much of each table and index is bloat."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_bloat_info
short_description: Report how much of each table and index is bloat
description:
  - Bloat is what a relation takes beyond what it would take if it were rewritten, with the fill factor that it has.
  - All tables, TOAST tables, materialised views and B-tree indexes are estimated from the planner's statistics, which
    reads nothing but catalogs. Where the extension C(pgstattuple) is installed and this user may execute it, the
    relations that matter most are measured, and all those whose statistics this user may not read.
  - Each figure says how it was got, and how far it may be off. What cannot be told is V(null), with the reason.
  - Changes nothing, and waits for no lock of others.
  - An estimate needs statistics that are up to date, and rights to read them (SELECT on the table, and no row-level
    security that is active for this user). A measurement needs no right on the table, only membership in
    C(pg_stat_scan_tables), which M(pg_roles) gives.
options:
  top:
    description:
      - How many tables and how many indexes are measured that are estimated too, and how many lines the lists have.
    type: int
    default: 20
  min_size_bytes:
    description:
      - Smaller relations count towards sizes only, not towards bloat.
    type: int
    default: 1048576
  measure:
    description:
      - Whether pages are measured where the extension pgstattuple is there. It reads the indexes in question wholly,
        and of the tables what VACUUM has not marked as visible to all.
    type: bool
    default: true
  min_bloat_percent:
    description:
      - Share of a relation that must be bloat for it to be a finding.
    type: float
    default: 40
  min_bloat_bytes:
    description:
      - With fewer bytes to win it is no finding.
    type: int
    default: 8388608
  deadline_s:
    description:
      - Seconds after which nothing more is measured, and the estimate stands.
    type: int
    default: 300
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
- name: Tell how much of the database is bloat
  pg_bloat_info:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
  register: bloat

- name: Estimate only, and list the worst fifty
  pg_bloat_info:
    dsn: "{{ db_dsn }}"
    measure: false
    top: 50
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "412.0 MiB of bloat (31.2 %) in 214 relations: 300.1 MiB in tables, 111.9 MiB in indexes; 12 measured, 202
    estimated."
status:
  description:
    - V(ok), or V(unknown) where missing rights, missing statistics or a lock leave a relation of at least
      O(min_size_bytes) unknown.
  type: str
  returned: always
database_size_bytes:
  description: Size of the database; null where this user may not ask.
  type: int
  returned: always
table_size_bytes:
  description: Size of all tables, materialised views and TOAST tables.
  type: int
  returned: always
index_size_bytes:
  description: Size of all indexes.
  type: int
  returned: always
table_bloat_bytes:
  description: Bloat of tables as far as it is known; null where none is.
  type: int
  returned: always
index_bloat_bytes:
  description: Bloat of indexes as far as it is known; null where none is.
  type: int
  returned: always
bloat_bytes:
  description: Both together.
  type: int
  returned: always
bloat_percent:
  description: The same as a percentage of the size of those relations whose bloat is known.
  type: float
  returned: always
unknown_bytes:
  description: Size of the relations whose bloat is unknown.
  type: int
  returned: always
unknown:
  description: Names of relations that rights, statistics or a freed lock would make known.
  type: list
  elements: str
  returned: always
methods:
  description: How many relations were V(measured), V(estimated), estimated as V(at_least), or V(none).
  type: dict
  returned: always
pgstattuple:
  description: Whether pages could be measured.
  type: bool
  returned: always
relations:
  description: The relations with the most bloat, or whose bloat is unknown, O(top) tables and O(top) indexes.
  type: list
  elements: dict
  returned: always
  contains:
    relation:
      description: Schema and name.
      type: str
    table:
      description: The table that it belongs to.
      type: str
    kind:
      description: V(table), V(materialized_view), V(toast) or V(index).
      type: str
    access_method:
      description: As PostgreSQL calls it.
      type: str
    size_bytes:
      description: Size of its pages.
      type: int
    expected_bytes:
      description: What a rewrite would leave; null where it is unknown.
      type: int
    bloat_bytes:
      description: What a rewrite would win; null where it is unknown.
      type: int
    bloat_percent:
      description: The same as a percentage of the size.
      type: float
    method:
      description:
        - V(measured) by pgstattuple, V(estimated) from statistics, V(at_least) from the number of chunks in TOAST,
          whose real bloat may be more, or V(none).
      type: str
    error_percent:
      description: How far off the method usually is at most, in percent of the size; null where nobody can say.
      type: float
    unknown_because:
      description: Why it is unknown; null where it is known.
      type: str
tables:
  description: The biggest tables by bloat, O(top) of them, partitions rolled up into their parent.
  type: list
  elements: dict
  returned: always
  contains:
    table:
      description: Schema and name.
      type: str
    partitions:
      description: How many partitions were added up; 0 for an ordinary table.
      type: int
    total_bytes:
      description: The sum of the next three.
      type: int
    heap_bytes:
      description: Pages of the table itself.
      type: int
    toast_bytes:
      description: Pages of its TOAST table.
      type: int
    indexes_bytes:
      description: Pages of its indexes and those of its TOAST table.
      type: int
    bloat_bytes:
      description: Bloat of all of these as far as it is known.
      type: int
    unknown_bytes:
      description: Size of those of them whose bloat is unknown.
      type: int
findings:
  description:
    - The relations worth a fix, the most bytes first, each with C(id), C(kind) (V(bloated_table) or V(bloated_index)),
      C(severity), C(object), C(evidence), C(msg), C(ddl), C(risk) and C(estimated).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import bloat, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.postgres import bloat as rule
from ansible.module_utils.runbook.rules.postgres import bloat_findings

#: Longest look into the catalogs, and longest wait for a table's lock before it is left out.
STATEMENT_TIMEOUT_MS = 120_000
LOCK_TIMEOUT_MS = 200


def core(context: Context) -> dict[str, Any]:
    """Read, measure, add up."""
    params, started = context.params, time.monotonic()
    for option, least in (("top", 1), ("min_size_bytes", 0), ("min_bloat_bytes", 0), ("deadline_s", 1)):
        if params[option] < least:
            raise RunbookError(f"{option}: {params[option]} is too small; give at least {least}.")
    if not 0 < params["min_bloat_percent"] <= 100:
        raise RunbookError(f"min_bloat_percent: {params['min_bloat_percent']:g} is no share; give 40 for 40 %.")
    target = postgres.Target.from_params(params)
    with (
        postgres.explained(target),
        postgres.Session(
            target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="bloat"
        ) as session,
    ):
        catalog = bloat.read(session, min_size_bytes=params["min_size_bytes"])
        bloats = [
            rule.estimate(relation)
            for relation in catalog.relations
            if relation.size_bytes is None or relation.size_bytes >= params["min_size_bytes"]
        ]
        measuring = bloat.measuring(session) if params["measure"] else bloat.Measuring(None, "set measure to true")
        schema = measuring.schema
        if schema is not None:
            chosen = rule.worth_measuring(bloats, min_size_bytes=params["min_size_bytes"], top=params["top"])
            total = sum(one.size_bytes or 0 for one in chosen)

            def tick(done: int, relation: rule.Relation) -> None:
                through = sum(one.size_bytes or 0 for one in chosen[:done])
                context.progress.update(f"measure {relation.name}", through, total, "bytes")

            found = bloat.measure(session, schema, chosen, deadline=started + params["deadline_s"], tick=tick)
            context.progress.update("measured", total, total, "bytes", final=True)
            bloats = [
                rule.measured(one.relation, found[one.relation.oid]) if one.relation.oid in found else one
                for one in bloats
            ]
        size = session.query(
            "SELECT CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END AS size"
            " FROM pg_database WHERE datname = current_database()"
        )[0]["size"]

        worth, left_out = findings.bounded(
            bloat_findings.findings(
                sorted(bloats, key=rule.order),
                min_bloat_percent=params["min_bloat_percent"],
                min_bloat_bytes=params["min_bloat_bytes"],
                ddl=lambda one: session.render(bloat.fix(one)),
            )
        )

    result = rule.totals(bloats, min_size_bytes=params["min_size_bytes"])
    ordered = sorted(bloats, key=rule.order)
    for what, index in (("table", False), ("index", True)):
        result[f"{what}_size_bytes"] = sum(
            relation.size_bytes or 0 for relation in catalog.relations if relation.is_index is index
        )
    result |= {
        "database_size_bytes": size,
        "pgstattuple": schema is not None,
        "relations": [
            rule.describe(one)
            for index in (False, True)
            for one in [one for one in ordered if one.relation.is_index is index][: params["top"]]
        ],
        "findings": [one.result() for one in worth],
        "findings_left_out": left_out,
        "tables": rule.by_table(bloats, catalog.parents)[: params["top"]],
        "duration_s": round(time.monotonic() - started, 3),
    }
    big = [one for one in bloats if one.size_bytes is None or one.size_bytes >= params["min_size_bytes"]]
    because = rule.unknown_because(big, measuring=measuring.fix)
    msg = rule.message(result, relations=len(bloats), unknown=because)
    return context.conclude(result["status"], msg=msg, fail_on_breach=False, fail_on_unknown=False, **result)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_bloat_info",
        argument_spec=postgres.argument_spec()
        | {
            "top": {"type": "int", "default": 20},
            "min_size_bytes": {"type": "int", "default": 1_048_576},
            "measure": {"type": "bool", "default": True},
            "min_bloat_percent": {"type": "float", "default": 40},
            "min_bloat_bytes": {"type": "int", "default": 8_388_608},
            "deadline_s": {"type": "int", "default": 300},
        },
    )


if __name__ == "__main__":
    main()
