"""How pg_archive makes an archive that is no more open than its source, and asks who may read one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.archive_access import PUBLIC, Access, Compared, Opening, Policy, Right
from ansible.module_utils.runbook.rules.postgres.archive_tables import STAMP, LocalObjects
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Table

#: First server version that tells the right to become a role from membership in it.
HAS_SET = 160000
#: Rights that let somebody read rows, or have others read or lose them. MAINTAIN does not.
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
COMMANDS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}


# Making


def statements(
    session: Session, source: Table, archive: QualifiedName, column: str | None, *, partitioned: bool
) -> list[sql.Composed]:
    """Statements that make the archive of a table, to be run in one transaction.

    The same columns with the same storage, and the time of the move. Defaults, identities and foreign keys stay
    behind: rows bring their values along, and an archive depends on nothing. Its key is the source's, so that a row
    is never doubled. Rows arrive in the order of time, for which a BRIN index is enough: it costs next to nothing to
    fill and finds a span of time as well as a btree would. A partitioned archive takes the source's indexes instead,
    because its partitions bring just these along.

    Its owner, row security and policies are the source's, and who may read the source may read it. What default
    privileges would give to others is taken back before anybody else sees the table.

    :param column: the one that says how old a row is; None makes no index on it
    :raises RunbookError: a policy cannot be written for the archive's name
    """
    access = read_access(session, source.name)
    name = identifier(archive)
    made = _creation(source, archive, column, partitioned=partitioned, server_version=session.server_version)
    given = _given_by_default(session, archive.schema)
    if given:
        made.append(sql.SQL("REVOKE ALL ON {} FROM {}").format(name, _roles(given)))
    made += [
        sql.SQL("GRANT {} ON {} TO {}").format(_privileges(right), name, _roles([right.grantee]))
        for right in access.readers
    ]
    if access.row_security:
        made.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
    if access.forced:
        made.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(name))
    made += [_policy_creation(archive, each.moved(source.name.name, archive.name)) for each in access.policies]
    if access.owner != session.query("SELECT current_user::text AS name")[0]["name"]:
        made.append(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name, sql.Identifier(access.owner)))
    return made


def may_make(session: Session, owner: str, schema: str) -> bool:
    """Whether this role may create tables in a schema, and give them to ``owner`` without losing its own rights."""
    become = "'SET'" if session.server_version >= HAS_SET else "'MEMBER'"
    row = session.query(
        f"""
        SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR (has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE')
                AND (o.rolname = current_user
                     OR (pg_has_role(o.oid, 'USAGE') AND pg_has_role(o.oid, {become})
                         AND has_schema_privilege(o.oid, n.oid, 'CREATE')))) AS may
          FROM pg_namespace n, pg_roles o WHERE n.nspname = %s AND o.rolname = %s
        """,  # noqa: S608 - words of ours
        (schema, owner),
    )
    return bool(row) and bool(row[0]["may"])


def _creation(
    source: Table, archive: QualifiedName, column: str | None, *, partitioned: bool, server_version: int
) -> list[sql.Composed]:
    options = [sql.SQL("INCLUDING STORAGE")]
    if server_version >= 140000:
        options.append(sql.SQL("INCLUDING COMPRESSION"))
    if partitioned:
        options += [sql.SQL("INCLUDING GENERATED"), sql.SQL("INCLUDING INDEXES")]
    parts: list[sql.Composed] = [sql.SQL("LIKE {} {}").format(identifier(source.name), sql.SQL(" ").join(options))]
    if source.column(STAMP) is None:
        parts.append(sql.SQL("{} timestamptz NOT NULL DEFAULT now()").format(sql.Identifier(STAMP)))
    if source.key and not partitioned:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, source.key))))
    ranges = (
        sql.SQL(" PARTITION BY RANGE ({})").format(sql.Identifier(column)) if partitioned and column else sql.SQL("")
    )
    made: list[sql.Composed] = [
        sql.SQL("CREATE TABLE {} ({}){}").format(identifier(archive), sql.SQL(", ").join(parts), ranges)
    ]
    if column and not partitioned:
        made.append(sql.SQL("CREATE INDEX ON {} USING brin ({})").format(identifier(archive), sql.Identifier(column)))
    return made


def _roles(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(PUBLIC) if name == PUBLIC else sql.Identifier(name) for name in names)


def _privileges(right: Right) -> sql.Composed:
    column = sql.SQL(" ({})").format(sql.Identifier(right.column)) if right.column else sql.SQL("")
    return sql.SQL(", ").join(sql.SQL(privilege) + column for privilege in right.privileges)


def _revocation(right: Right) -> list[sql.Composable]:
    """Statements that take a right away, and what its holder gave on to others.

    REVOKE by the owner leaves what somebody else granted: that one has to take it back.
    """
    revoke = sql.SQL("REVOKE {}{} ON {} FROM {} CASCADE").format(
        sql.SQL("GRANT OPTION FOR " if right.option else ""),
        _privileges(right),
        identifier(right.table),
        _roles([right.grantee]),
    )
    if not right.by:
        return [revoke]
    return [sql.SQL("SET ROLE {}").format(sql.Identifier(right.by)), revoke, sql.SQL("RESET ROLE")]


def _policy_creation(table: QualifiedName, policy: Policy) -> sql.Composed:
    # The conditions are the server's own text of them.
    using = sql.SQL("") if policy.using is None else sql.SQL(" USING (") + sql.SQL(policy.using) + sql.SQL(")")
    check = sql.SQL("") if policy.check is None else sql.SQL(" WITH CHECK (") + sql.SQL(policy.check) + sql.SQL(")")
    return (
        sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
            sql.Identifier(policy.name),
            identifier(table),
            sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
            sql.SQL(COMMANDS[policy.command]),
            _roles(policy.roles),
        )
        + using
        + check
    )


def _given_by_default(session: Session, schema: str) -> list[str]:
    """Whom default privileges give rights on a table that this role makes in a schema."""
    rows = session.query(
        """
        SELECT DISTINCT coalesce(r.rolname, %(public)s) AS name
          FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) AS x
          LEFT JOIN pg_roles r ON r.oid = x.grantee
         WHERE d.defaclrole = current_user::regrole AND d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole
           AND (d.defaclnamespace = 0 OR d.defaclnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s))
         ORDER BY 1
        """,
        {"public": PUBLIC, "schema": schema},
    )
    return [row["name"] for row in rows]


# Comparing


#: All rights on tables, one a row; those on columns too. The owner's own are left out. A grant option is a row of its
#: own; ``by`` is who granted it, where that is not the owner.
_RIGHTS = """
    SELECT g.oid, n.nspname, g.relname, coalesce(r.rolname, 'PUBLIC') AS grantee, coalesce(r.rolname, 'public') AS who,
           x.privilege_type AS privilege, g.column, option <> '' AS option, option AS suffix,
           CASE WHEN x.grantor <> g.relowner THEN pg_get_userbyid(x.grantor)::text ELSE '' END AS by
      FROM (SELECT oid, relname, relnamespace, relowner, '' AS column,
                   coalesce(relacl, acldefault('r', relowner)) AS acl FROM pg_class
             UNION ALL
            SELECT c.oid, c.relname, c.relnamespace, c.relowner, a.attname::text, a.attacl
              FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
             WHERE NOT a.attisdropped AND a.attacl IS NOT NULL) AS g
      JOIN pg_namespace n ON n.oid = g.relnamespace
     CROSS JOIN LATERAL aclexplode(g.acl) AS x
      JOIN unnest(ARRAY['', ' WITH GRANT OPTION']) AS option ON option = '' OR x.is_grantable
      LEFT JOIN pg_roles r ON r.oid = x.grantee
     WHERE x.grantee <> g.relowner
"""


def read_access(session: Session, name: QualifiedName) -> Access:
    """Who may read a table that is there."""
    row = session.query(
        "SELECT c.oid, pg_get_userbyid(c.relowner) AS owner, c.relrowsecurity, c.relforcerowsecurity"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        tuple(name),
    )[0]
    policies = session.query(
        """
        SELECT polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid) AS using,
               pg_get_expr(polwithcheck, polrelid) AS check,
               ARRAY(SELECT coalesce(r.rolname::text, %(public)s) FROM unnest(polroles) AS o (oid)
                       LEFT JOIN pg_roles r ON r.oid = o.oid ORDER BY 1) AS roles
          FROM pg_policy WHERE polrelid = %(oid)s ORDER BY polname
        """,
        {"oid": row["oid"], "public": PUBLIC},
    )
    readers = session.query(
        # Not the grant option: an archive is passed on by its owner alone.
        f"SELECT DISTINCT x.grantee, x.column FROM ({_RIGHTS}) AS x"  # noqa: S608 - a constant
        " WHERE x.oid = %(oid)s AND x.privilege = 'SELECT' AND NOT x.option ORDER BY 1, 2",
        {"oid": row["oid"]},
    )
    return Access(
        owner=row["owner"],
        row_security=row["relrowsecurity"],
        forced=row["relforcerowsecurity"],
        policies=tuple(
            Policy(
                each["polname"],
                each["polcmd"],
                each["polpermissive"],
                tuple(each["roles"]),
                each["using"],
                each["check"],
            )
            for each in policies
        ),
        readers=tuple(Right(name, each["grantee"], ("SELECT",), each["column"]) for each in readers),
    )


def compare(session: Session, source: QualifiedName, archive: QualifiedName) -> Compared:
    """What the server says about an archive and its partitions, beside its source."""
    values = {
        "source": _oid(session, source),
        "archive": _oid(session, archive),
        "privileges": list(PRIVILEGES),
    }
    below = """
        WITH RECURSIVE below (oid) AS (
            SELECT %(archive)s::oid UNION SELECT h.inhrelid FROM pg_inherits h JOIN below ON h.inhparent = below.oid)
    """
    # Rows are put in by those who take them out of the source: they may INSERT here, and DELETE there.
    allowed = """
        CASE WHEN x.privilege = 'INSERT' AND has_table_privilege(x.who, %(source)s::oid, 'DELETE' || {option}) THEN true
             WHEN x.column = '' THEN has_table_privilege(x.who, %(source)s::oid, x.privilege || {option})
             WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = %(source)s AND attname = x.column)
                 THEN has_column_privilege(x.who, %(source)s::oid, x.column, x.privilege || {option})
             ELSE has_any_column_privilege(x.who, %(source)s::oid, x.privilege || {option}) END
    """
    # A grant option goes with its right: where that is too much already, it is not named again.
    wider = session.query(
        f"""
        {below}
        SELECT x.nspname, x.relname, x.grantee, x.column, x.option, x.by,
               array_agg(x.privilege ORDER BY array_position(%(privileges)s, x.privilege)) AS privileges
          FROM ({_RIGHTS}) AS x JOIN below ON below.oid = x.oid
         WHERE x.privilege = ANY(%(privileges)s) AND NOT {allowed.format(option="x.suffix")}
           AND (NOT x.option OR {allowed.format(option="''")})
         GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
        """,  # noqa: S608 - constants
        values,
    )
    bare = session.query(
        f"""
        {below}
        SELECT DISTINCT x.nspname, x.relname FROM ({_RIGHTS}) AS x JOIN below ON below.oid = x.oid
          JOIN pg_class c ON c.oid = x.oid
         WHERE x.privilege = 'SELECT' AND NOT c.relrowsecurity AND c.oid <> %(archive)s ORDER BY 1, 2
        """,  # noqa: S608 - constants
        values,
    )
    owners = session.query(
        """
        SELECT o.rolsuper OR (has_table_privilege(o.oid, s.oid, 'SELECT') AND (NOT s.relrowsecurity OR o.rolbypassrls))
                   AS sees,
               has_table_privilege(s.relowner, a.oid, 'SELECT') AS readable
          FROM pg_class s, pg_class a JOIN pg_roles o ON o.oid = a.relowner
         WHERE s.oid = %(source)s AND a.oid = %(archive)s
        """,
        values,
    )[0]
    return Compared(
        source=source,
        archive=archive,
        source_access=read_access(session, source),
        archive_access=read_access(session, archive),
        wider=tuple(
            Right(
                QualifiedName(each["nspname"], each["relname"]),
                each["grantee"],
                tuple(each["privileges"]),
                each["column"],
                each["option"],
                each["by"],
            )
            for each in wider
        ),
        bare=tuple(QualifiedName(each["nspname"], each["relname"]) for each in bare),
        owner_sees=owners["sees"],
        readable=owners["readable"],
    )


def _oid(session: Session, name: QualifiedName) -> int:
    rows = session.query(
        "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        tuple(name),
    )
    return int(rows[0]["oid"])


def closing(found: Compared, ways: Sequence[Opening]) -> list[sql.Composable]:
    """Statements that close what is more open than it should be."""
    done: list[sql.Composable] = []
    for way in ways:
        table = identifier(way.table)
        if way.right:
            done += _revocation(way.right)
        elif way.kind == "policy" and way.policy:
            done.append(sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(way.policy.name), table))
        elif way.policy:
            done.append(_policy_creation(way.table, way.policy.moved(found.source.name, found.archive.name)))
        elif way.kind == "owner":
            done.append(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(found.source_access.owner)))
        else:
            done.append(
                sql.SQL("ALTER TABLE {} {} ROW LEVEL SECURITY").format(
                    table, sql.SQL("FORCE" if way.kind == "forced" else "ENABLE")
                )
            )
    return done


# Partitions that are handed over


def local_objects(session: Session, partition: QualifiedName, beside: QualifiedName) -> LocalObjects:
    """What a partition has of its own, and would behave otherwise by than the archive does.

    :param beside: the archive, or the source that it will be made like
    """
    values = {"partition": _oid(session, partition), "beside": _oid(session, beside)}
    row = session.query(
        """
        SELECT pg_get_userbyid(c.relowner) AS owner, c.relpersistence <> 'p' AS unlogged,
               b.relrowsecurity AND NOT c.relrowsecurity AS bare,
               b.relforcerowsecurity AND NOT c.relforcerowsecurity AS unforced,
               ARRAY(SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f' ORDER BY 1)
                   AS foreign_keys,
               ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgparentid = 0
                      ORDER BY 1) AS triggers,
               ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = c.oid ORDER BY 1) AS rules,
               ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1) AS policies
          FROM pg_class c, pg_class b WHERE c.oid = %(partition)s AND b.oid = %(beside)s
        """,
        values,
    )[0]
    publications = session.query(
        "SELECT p.pubname, pg_has_role(p.pubowner, 'USAGE') AS may FROM pg_publication_rel r"
        " JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(partition)s ORDER BY 1",
        values,
    )
    rights = session.query(
        f"""
        SELECT x.grantee, x.column, x.option, x.by, array_agg(x.privilege ORDER BY x.privilege) AS given
          FROM ({_RIGHTS}) AS x
         WHERE x.oid = %(partition)s AND NOT has_table_privilege(x.who, %(beside)s::oid, x.privilege || x.suffix)
           AND (NOT x.option OR has_table_privilege(x.who, %(beside)s::oid, x.privilege))
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """,  # noqa: S608 - a constant
        values,
    )
    return LocalObjects(
        owner=row["owner"],
        foreign_keys=tuple(row["foreign_keys"]),
        triggers=tuple(row["triggers"]),
        rules=tuple(row["rules"]),
        policies=tuple(row["policies"]),
        publications=tuple(each["pubname"] for each in publications if each["may"]),
        undroppable_publications=tuple(each["pubname"] for each in publications if not each["may"]),
        rights=tuple(
            Right(partition, each["grantee"], tuple(each["given"]), each["column"], each["option"], each["by"])
            for each in rights
        ),
        lacks_row_security=row["bare"],
        lacks_forced_row_security=row["unforced"],
        unlogged=row["unlogged"],
    )


def left_behind(partition: QualifiedName, own: LocalObjects, owner: str) -> list[sql.Composable]:
    """Statements that take from a partition, once it is off the source, what it does not bring into the archive.

    :param owner: the archive's
    """
    table = identifier(partition)

    def each(text: str, names: Iterable[str]) -> list[sql.Composable]:
        return [sql.SQL(text).format(sql.Identifier(name), table) for name in names]

    done = each("ALTER TABLE {1} DROP CONSTRAINT {0}", own.foreign_keys)
    done += each("DROP TRIGGER {0} ON {1}", own.triggers)
    done += each("DROP RULE {0} ON {1}", own.rules)
    done += each("DROP POLICY {0} ON {1}", own.policies)
    done += each("ALTER PUBLICATION {0} DROP TABLE {1}", own.publications)
    done += [statement for right in own.rights for statement in _revocation(right)]
    if own.lacks_row_security:
        done.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table))
    if own.lacks_forced_row_security:
        done.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table))
    if own.owner != owner:
        done.append(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(owner)))
    return done
