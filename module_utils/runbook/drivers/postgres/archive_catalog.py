"""What the catalog says about the source and the archive of pg_archive: the table, and the whole tree it stands in.

What takes rows along, changes them or tells others of them may be tied to any table of a tree: to a partition, or to
the table that the named one is a partition of. So the whole tree is looked at, of partitions and of inheritance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.archive_tables import (
    Column,
    ForeignKey,
    Index,
    Partition,
    Publication,
    Schema,
    Table,
    Trigger,
)
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: First server version whose publications take whole schemas, row filters and lists of columns.
PUBLISHES_SCHEMAS = 150000


# Whether a policy opens every row to this role, and none that restricts takes a row away again.
_OPENED = """
    EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*' AND {applies}
              AND pg_get_expr(p.polqual, c.oid) = 'true'
              AND coalesce(pg_get_expr(p.polwithcheck, c.oid), 'true') = 'true')
    AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND {applies})
""".replace(
    "{applies}",
    "(SELECT bool_or(CASE WHEN r = 0 THEN true ELSE pg_has_role(r, 'USAGE') END) FROM unnest(p.polroles) AS r)",
)


def read_table(session: Session, name: QualifiedName, *, event: Literal["INSERT", "DELETE"]) -> Table | None:
    """What the catalog says about a table and its tree; None where there is none of that name.

    Partitions that may be moved whole are read apart.

    :param event: what will be done to its rows; triggers of other events do not matter
    """
    found = session.query(
        f"""
        SELECT c.oid, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner) AS owner,
               pg_has_role(c.relowner, 'USAGE') AS owned, row_security_active(c.oid) AS row_security,
               {_OPENED} AS opened,
               coalesce(p.partstrat, '') AS strategy, coalesce(p.partdefid, 0) <> 0 AS has_default,
               (SELECT array_agg(coalesce(a.attname::text, '') ORDER BY k.place)
                  FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k (number, place)
                  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number) AS partition_columns,
               has_schema_privilege(c.relnamespace, 'USAGE') AS usage,
               (SELECT array_agg(right_name) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_name
                 WHERE has_table_privilege(c.oid, right_name)) AS rights
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
         WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        """,  # noqa: S608 - a constant of this file is put in
        tuple(name),
    )
    if not found:
        return None
    row = found[0]
    oid = row["oid"]
    below, above, tree = _tree(session, oid)
    children = session.query(
        "SELECT oid::regclass::text AS name, relkind, relispartition, relpersistence FROM pg_class"
        " WHERE oid = ANY(%s::oid[]) AND oid <> %s ORDER BY 1",
        (below, oid),
    )
    rules = session.query(
        "SELECT rulename FROM pg_rewrite WHERE ev_class = %s AND rulename <> '_RETURN' ORDER BY 1",
        (oid,),
    )
    rights = set(row["rights"] or ()) | ({"USAGE"} if row["usage"] else set())
    return Table(
        name=name,
        kind=row["relkind"],
        persistence="u"
        if event == "INSERT" and any(each["relpersistence"] == "u" for each in children)
        else row["relpersistence"],
        owner=row["owner"],
        owned=row["owned"],
        columns=_columns(session, oid),
        indexes=_indexes(session, oid),
        rights=frozenset(rights),
        row_security=row["row_security"] and not row["opened"],
        by_policy=row["row_security"] and row["opened"],
        triggers=_triggers(session, oid, below, event),
        rules=tuple(each["rulename"] for each in rules),
        referencing_keys=_referencing_keys(session, [*below, *above]),
        cascading_keys=_cascading_keys(session, below),
        subscriptions=_subscriptions(session, [*below, *above]),
        publications=_publications(session, [*below, *above]),
        children=tuple(each["name"] for each in children if not each["relispartition"]),
        tree=frozenset(tree),
        partitioned_by=row["strategy"],
        partition_columns=tuple(row["partition_columns"] or ()),
        has_default_partition=row["has_default"],
        foreign_partitions=tuple(each["name"] for each in children if each["relkind"] == "f"),
    )


def _tree(session: Session, oid: int) -> tuple[list[int], list[int], list[int]]:
    """The table and all below it; all above it; and all that stand in one tree with it."""
    row = session.query(
        """
        WITH RECURSIVE below (oid) AS (
            SELECT %(oid)s::oid UNION SELECT h.inhrelid FROM pg_inherits h JOIN below ON h.inhparent = below.oid
        ), above (oid) AS (
            SELECT %(oid)s::oid UNION SELECT h.inhparent FROM pg_inherits h JOIN above ON h.inhrelid = above.oid
        ), tree (oid) AS (
            SELECT oid FROM above UNION SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid
        )
        SELECT ARRAY(SELECT oid::bigint FROM below) AS below,
               ARRAY(SELECT oid::bigint FROM above WHERE oid <> %(oid)s) AS above,
               ARRAY(SELECT oid::bigint FROM tree) AS tree
        """,
        {"oid": oid},
    )[0]
    return row["below"], row["above"], row["tree"]


def _triggers(session: Session, oid: int, below: Sequence[int], event: str) -> tuple[Trigger, ...]:
    """Triggers that fire on the rows: those of the table itself, and those of each row of its partitions.

    Those by which the server keeps foreign keys and deferred unique keys are no triggers of people. What a partition
    has from the table above it is named once.
    """
    rows = session.query(
        """
        SELECT t.tgname, CASE WHEN t.tgrelid <> %(oid)s THEN t.tgrelid::regclass::text ELSE '' END AS place,
               t.tgtype & 3 = 3 AS before_row
          FROM pg_trigger t LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
         WHERE t.tgrelid = ANY(%(below)s::oid[]) AND t.tgenabled IN ('O', 'A') AND t.tgtype & %(event)s <> 0
           AND coalesce(k.contype, 't') = 't' AND (t.tgrelid = %(oid)s OR t.tgtype & 1 <> 0)
           AND NOT EXISTS (SELECT FROM pg_trigger u WHERE u.oid = t.tgparentid
                              AND u.tgrelid = ANY(%(below)s::oid[]) AND u.tgenabled IN ('O', 'A'))
         ORDER BY 2, 1
        """,
        {"oid": oid, "below": below, "event": {"INSERT": 4, "DELETE": 8}[event]},
    )
    return tuple(Trigger(each["tgname"], each["place"], before_row=each["before_row"]) for each in rows)


#: What a foreign key does when the row that it points at is deleted, or its key is changed.
ACTIONS = ", ".join(
    f"CASE conf{short}type WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'"
    f" WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS {name}"
    for short, name in (("del", "on_delete"), ("upd", "on_update"))
)


def _referencing_keys(session: Session, tables: Sequence[int]) -> tuple[ForeignKey, ...]:
    """Foreign keys that point at any of the tables."""
    rows = session.query(
        f"SELECT conname, conrelid::regclass::text AS place, {ACTIONS}"  # noqa: S608 - a constant
        " FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY(%s::oid[]) AND conparentid = 0 ORDER BY 2, 1",
        (tables,),
    )
    return tuple(ForeignKey(each["conname"], each["place"], each["on_delete"], each["on_update"]) for each in rows)


def _cascading_keys(session: Session, tables: Sequence[int]) -> tuple[ForeignKey, ...]:
    """Foreign keys of the tables by which their own rows are deleted or changed when others are elsewhere."""
    rows = session.query(
        f"SELECT conname, confrelid::regclass::text AS place, {ACTIONS}"  # noqa: S608 - a constant
        " FROM pg_constraint k WHERE contype = 'f' AND conrelid = ANY(%(tables)s::oid[])"
        " AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))"
        " AND NOT EXISTS (SELECT FROM pg_constraint u"
        " WHERE u.oid = k.conparentid AND u.conrelid = ANY(%(tables)s::oid[])) ORDER BY 1, 2",
        {"tables": tables},
    )
    return tuple(ForeignKey(each["conname"], each["place"], each["on_delete"], each["on_update"]) for each in rows)


def _subscriptions(session: Session, tables: Sequence[int]) -> tuple[str, ...]:
    """Subscriptions that fill any of the tables."""
    rows = session.query(
        "SELECT DISTINCT s.subname FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid"
        " WHERE r.srrelid = ANY(%s::oid[]) ORDER BY 1",
        (tables,),
    )
    return tuple(each["subname"] for each in rows)


def _publications(session: Session, tables: Sequence[int], *, schema: str = "") -> tuple[Publication, ...]:
    """Publications that tell others of the tables' rows: named one by one, by their schema, or with all tables.

    :param schema: also those of all tables of this schema
    """
    by_schema, filtered = "", "false"
    if session.server_version >= PUBLISHES_SCHEMAS:
        by_schema = (
            " OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid"
            " WHERE s.pnpubid = p.oid AND (n.nspname = %(schema)s OR EXISTS (SELECT FROM pg_class c"
            " WHERE c.relnamespace = n.oid AND c.oid = ANY(%(tables)s::oid[]))))"
        )
        filtered = (
            "EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = ANY(%(tables)s::oid[])"
            " AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL))"
        )
    rows = session.query(
        f"SELECT p.pubname, p.pubinsert, p.pubdelete, {filtered} AS filtered,"  # noqa: S608 - words of ours
        " EXISTS (SELECT FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database())"
        " AS followed FROM pg_publication p"
        " WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r"
        f" WHERE r.prpubid = p.oid AND r.prrelid = ANY(%(tables)s::oid[])){by_schema} ORDER BY 1",
        {"tables": tables, "schema": schema},
    )
    return tuple(
        Publication(
            each["pubname"],
            inserts=each["pubinsert"],
            deletes=each["pubdelete"],
            filtered=each["filtered"],
            has_subscribers=each["followed"],
        )
        for each in rows
    )


def _columns(session: Session, oid: int) -> tuple[Column, ...]:
    rows = session.query(
        """
        WITH RECURSIVE base (type, bottom) AS (
            SELECT t.oid, t.oid FROM pg_type t
             WHERE t.oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = %(oid)s)
            UNION ALL
            SELECT base.type, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.bottom WHERE t.typtype = 'd'
        )
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, format_type(b.bottom, NULL) AS base,
               CASE WHEN a.attcollation <> 0 THEN (SELECT format('%%I.%%I', n.nspname, c.collname) FROM pg_collation c
                      JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END AS collation,
               a.attnotnull, a.attidentity <> '' AS identity,
               CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) ELSE '' END AS generated,
               has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
          FROM pg_attribute a
          JOIN base b ON b.type = a.atttypid
          JOIN pg_type t ON t.oid = b.bottom AND t.typtype <> 'd'
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum
        """,
        {"oid": oid},
    )
    return tuple(
        Column(
            name=row["attname"],
            type=row["type"],
            base_type=row["base"],
            collation=row["collation"],
            not_null=row["attnotnull"],
            generated=row["generated"],
            identity=row["identity"],
            readable=row["readable"],
        )
        for row in rows
    )


#: All that ATTACH PARTITION compares, as one text.
SIGNATURE = """
    json_build_array(am.amname, i.indisunique, i.indisprimary, i.indclass::text, i.indcollation::text,
        i.indoption::text, pg_get_expr(i.indpred, i.indrelid),
        (SELECT json_agg(pg_get_indexdef(i.indexrelid, number, false) ORDER BY number)
           FROM generate_series(1, i.indnatts) AS number))::text
"""


def _indexes(session: Session, oid: int) -> tuple[Index, ...]:
    rows = session.query(
        f"""
        SELECT c.relname, i.indisprimary, am.amname = 'btree' AND i.indpred IS NULL AS ordered,
               i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS is_unique,
               NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull) AS never_null,
               (SELECT array_agg(coalesce(a.attname::text, '') ORDER BY k.place)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND a.attnum > 0
                 WHERE k.place <= i.indnkeyatts) AS columns,
               {SIGNATURE} AS signature
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
         WHERE i.indrelid = %s AND i.indisvalid AND i.indisready ORDER BY c.relname
        """,  # noqa: S608 - a constant of this file is put in
        (oid,),
    )
    return tuple(
        Index(
            name=row["relname"],
            columns=tuple(row["columns"]),
            unique=row["is_unique"],
            is_key=row["is_unique"] and row["never_null"],
            primary=row["indisprimary"],
            ordered=row["ordered"],
            signature=row["signature"],
        )
        for row in rows
    )


def read_schema(session: Session, name: str) -> Schema:
    """Whether a schema is there, whose server it is, and who would be told of the rows of its tables."""
    rows = session.query("SELECT oid FROM pg_namespace WHERE nspname = %s", (name,))
    roles = session.query("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) ORDER BY 1", (sorted(PLATFORM_OWNERS),))
    platform = tuple(row["rolname"] for row in roles)
    return Schema(exists=bool(rows), platform_roles=platform, publications=_publications(session, [], schema=name))


def read_partitions(session: Session, source: Table, column: Column, cutoff: datetime) -> tuple[Partition, ...]:
    """The partitions of a table that is partitioned by ranges of one column, in the order of their names.

    The default partition is left out: it has no limits, so it is never old as a whole.
    """
    rows = session.query(
        f"""
        SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds,
               pg_get_partition_constraintdef(c.oid) AS constraint,
               c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') AS movable,
               ARRAY(SELECT {SIGNATURE} FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                       JOIN pg_am am ON am.oid = ic.relam WHERE i.indrelid = c.oid AND i.indisvalid) AS signatures
          FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE h.inhparent = (SELECT pc.oid FROM pg_class pc JOIN pg_namespace pn ON pn.oid = pc.relnamespace
                               WHERE pn.nspname = %s AND pc.relname = %s)
           AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
         ORDER BY 1, 2
        """,  # noqa: S608 - a constant of this file is put in
        tuple(source.name),
    )
    partitions = []
    for row in rows:
        upper = row["bounds"].rpartition(" TO (")[2].removesuffix(")")
        is_old = False
        if upper.startswith("'"):
            # The literal is the server's own text of the limit, in UTC as this session is.
            old = session.query(
                sql.SQL("SELECT {upper}::{type} <= %s::timestamptz::{type} AS old").format(
                    upper=sql.SQL(upper), type=sql.SQL(column.base_type)
                ),
                (cutoff.isoformat(),),
            )
            is_old = old[0]["old"]
        partitions.append(
            Partition(
                name=QualifiedName(row["nspname"], row["relname"]),
                bounds=row["bounds"],
                constraint=row["constraint"],
                movable=row["movable"],
                is_old=is_old,
                signatures=frozenset(row["signatures"]),
            )
        )
    return tuple(partitions)
