"""Faults that a drill injects into its own backups, and the mistakes that it makes in its own database."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from psycopg2 import sql

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres import postgres
    from ansible.module_utils.runbook.drivers.s3 import s3


# --- backups ----------------------------------------------------------------------------------------------------------


def flip_byte(store: s3.Store, key: str) -> None:
    """Flip one bit in the middle of an object."""
    data = bytearray(_get(store, key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))


def truncate(store: s3.Store, key: str) -> None:
    """Cut the second half of an object off."""
    data = _get(store, key)
    store.put(key, data[: len(data) // 2])


def _get(store: s3.Store, key: str) -> bytes:
    return store.read(key, most_bytes=1 << 31)


def row_place(session: postgres.Session, table: sql.Identifier) -> tuple[str, int, int]:
    """A live row of a table: the file below the data folder, its block, its line pointer."""
    path = session.query(sql.SQL("SELECT pg_relation_filepath({}::regclass) AS path").format(_literal(session, table)))
    row = session.query(sql.SQL("SELECT ctid::text AS place FROM {} ORDER BY id LIMIT 1").format(table))[0]
    block, line = str(row["place"]).strip("()").split(",")
    return str(path[0]["path"]), int(block), int(line)


def _literal(session: postgres.Session, table: sql.Identifier) -> sql.Composable:
    return sql.Literal(table.as_string(session.connection))


def flip_row(store: s3.Store, key: str, place: tuple[str, int, int]) -> None:
    """Flip one bit of one row in a base backup, as a disk or a memory does, and leave the archive itself whole.

    A page begins with a header of 24 bytes; then come line pointers of 4 bytes, of which the lowest 15 bits are the
    row's offset and the highest 15 its length (PostgreSQL's bufpage.h and itemid.h).
    """
    import lz4.frame  # noqa: PLC0415 - nothing but this injected fault needs it

    name, block, line = place
    source = io.BytesIO(lz4.frame.decompress(_get(store, key)))
    with tarfile.open(fileobj=source) as archive:
        member = next((each for each in archive if each.name.removeprefix("./").endswith(name)), None)
        if member is None:
            raise RunbookError(f"{store.url(key)} holds no {name}, so no byte of it can be flipped.")
        start = member.offset_data
    data = bytearray(source.getvalue())
    page = start + block * 8192
    pointer = int.from_bytes(data[page + 24 + 4 * (line - 1) : page + 24 + 4 * line], "little")
    offset, length = pointer & 0x7FFF, pointer >> 17
    data[page + offset + length - 8] ^= 1
    store.put(key, lz4.frame.compress(bytes(data)))


# --- the database -----------------------------------------------------------------------------------------------------


def mistakes(scenario: str, table: sql.Identifier) -> list[sql.Composed]:
    """What somebody does by mistake in a scenario that leaves the server running."""
    if scenario == "table_dropped":
        return [sql.SQL("DROP TABLE {} CASCADE").format(table)]
    return [sql.SQL("UPDATE {} SET body = '' WHERE id % 2 = 0").format(table)]


def healthy(table: sql.Identifier) -> sql.Composed:
    """The question by which a monitor sees that the application's table is there and well."""
    return sql.SQL("SELECT count(*) > 0 AND count(*) FILTER (WHERE body = '') = 0 FROM {}").format(table)


def migration(table: sql.Identifier) -> sql.Composed:
    """A change of the schema that the application relies on from then on."""
    return sql.SQL("ALTER TABLE {} ADD COLUMN migrated_at timestamptz").format(table)
