"""Ask the catalogue for what runs while a backup is being restored: see ``rules/backup/restorable.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.backup.restorable import Function, Use
from ansible.module_utils.runbook.rules.identifiers import QualifiedName

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

_USES = """
    SELECT DISTINCT n.nspname AS schema, p.proname AS name,
           CASE WHEN k.oid IS NOT NULL AND k.contypid <> 0 THEN format('the check %s of the domain %s', k.conname,
                     format_type(k.contypid, NULL))
                WHEN k.oid IS NOT NULL THEN format('the check %s of %s.%s', k.conname, cn.nspname, c.relname)
                WHEN c.relkind IN ('i', 'I') THEN format('the index %s.%s', cn.nspname, c.relname)
                ELSE format('the generated column %s of %s.%s', a.attname, cn.nspname, c.relname) END AS what
    FROM pg_depend d
    JOIN pg_proc p ON p.oid = d.refobjid
    JOIN pg_namespace n ON n.oid = p.pronamespace
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_class c ON c.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid
                                         ELSE coalesce(k.conrelid, f.adrelid) END
    LEFT JOIN pg_namespace cn ON cn.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid
         AND a.attnum = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objsubid ELSE f.adnum END
    WHERE d.refclassid = 'pg_proc'::regclass AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND (k.oid IS NOT NULL OR c.relkind IN ('i', 'I')
           OR (c.relkind IN ('r', 'p') AND a.attnum > 0 AND a.attgenerated <> ''))
    ORDER BY 3, 1, 2
"""

_FUNCTIONS = """
    SELECT n.nspname AS schema, p.proname AS name, p.prosrc AS body
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND l.lanname IN ('sql', 'plpgsql')
      -- It came with 14.
      AND to_jsonb(p) ->> 'prosqlbody' IS NULL
      AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE split_part(setting, '=', 1) = 'search_path')
"""

_NAMES = """
    SELECT DISTINCT name FROM (
        SELECT proname, pronamespace FROM pg_proc UNION ALL SELECT relname, relnamespace FROM pg_class
        UNION ALL SELECT typname, typnamespace FROM pg_type
    ) AS named (name, schema) JOIN pg_namespace n ON n.oid = schema
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND NOT EXISTS (SELECT FROM pg_proc WHERE proname = name AND pronamespace = 'pg_catalog'::regnamespace)
      AND NOT EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'pg_catalog'::regnamespace)
      AND NOT EXISTS (SELECT FROM pg_type WHERE typname = name AND typnamespace = 'pg_catalog'::regnamespace)
"""


def read(session: Session) -> tuple[list[Use], list[Function], set[str]]:
    """What runs functions in a restore, the functions whose bodies are text, and the names that need a schema."""
    uses = [Use(row["what"], QualifiedName(row["schema"], row["name"])) for row in session.query(_USES)]
    if not uses:
        return [], [], set()
    functions = [Function(QualifiedName(row["schema"], row["name"]), row["body"]) for row in session.query(_FUNCTIONS)]
    return uses, functions, {row["name"] for row in session.query(_NAMES)}
