"""Which rights are missing for the maintenance of tables, as the statements that grant them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: So many statements are named; db_roles.yml runs them all.
_NAMED = 4
_TABLES = """
SELECT n.nspname, c.relname, o.rolname AS owner, o.rolsuper AS of_superuser,
  has_schema_privilege(n.oid, 'USAGE') AS usable, pg_has_role(o.oid, 'USAGE') OR {maintain} AS permitted
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS o ON o.oid = c.relowner
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[]) ORDER BY 1, 2
"""


def to_maintain(session: Session, oids: Iterable[int]) -> str:
    """How this user comes to vacuum and reindex these tables: the end of a sentence, without its full stop."""
    has_maintain = session.server_version >= 170000
    maintain = "has_table_privilege(c.oid, 'MAINTAIN')" if has_maintain else "false"
    rows = session.query(_TABLES.replace("{maintain}", maintain), {"oids": list(oids)})
    grants = [("USAGE ON SCHEMA", sql.Identifier(row["nspname"])) for row in rows if not row["usable"]]
    for row in rows:
        if row["permitted"]:
            continue
        if has_maintain and row["of_superuser"]:
            grants.append(("", sql.Identifier("pg_maintain")))
        elif has_maintain:
            grants.append(("MAINTAIN ON", sql.Identifier(row["nspname"], row["relname"])))
        elif not row["of_superuser"]:
            grants.append(("", sql.Identifier(row["owner"])))
    user = sql.Identifier(session.target.user)
    missing = list(
        dict.fromkeys(
            session.render(sql.SQL(f"GRANT {right} {{}} TO {{}}").format(name, user)) for right, name in grants
        )
    )
    if not missing:
        return "connect as a superuser, who owns them"
    more = f" (and {len(missing) - _NAMED:,} more)" if len(missing) > _NAMED else ""
    return f"run playbooks/db_roles.yml again, or {'; '.join(missing[:_NAMED])}{more}"
