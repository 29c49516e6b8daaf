"""What brings a database down one day, and is seen long before.

Ids that run out, sessions that hold on, WAL that piles up, damaged pages, a cold cache, settings that hurt.

Transaction ids: PostgreSQL stops taking writes when a table's oldest row is two thousand million transactions old, and
autovacuum works against that from ``autovacuum_freeze_max_age`` (200 million) on (its documentation, "Preventing
Transaction ID Wraparound Failures"). Keys: a column of type integer ends at 2,147,483,647, whatever its sequence does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.words import agree, count, size, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.findings import Severity
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.indexes import Table

#: Transactions after which PostgreSQL refuses writes: 2^31, less the three million that it keeps for a superuser.
XID_STOP = 2_147_483_648 - 3_000_000
#: Share of that from which there is no time to lose.
XID_CRITICAL_SHARE = 0.5
#: Share of a key's numbers from which there is no time to lose.
KEY_CRITICAL_PERCENT = 95.0
#: Share of reads that the cache should answer in a service that people wait for; asked only after this many bytes.
CACHE_HIT_PERCENT = 95.0
CACHE_READ_BYTES = 1 << 30
PAGE_BYTES = 8192
#: A database of this size deserves more than PostgreSQL's default of shared_buffers.
BIG_DATABASE_BYTES = 8 << 30
DEFAULT_SHARED_BUFFERS_BYTES = 128 << 20

_TYPE_MAX = {"smallint": 32_767, "integer": 2_147_483_647, "bigint": 9_223_372_036_854_775_807}


@dataclass(frozen=True)
class Key:
    """A column that counts upwards, or a sequence that belongs to none."""

    #: The sequence; None where a column is filled without one.
    sequence: QualifiedName | None
    #: Table and column; None for a sequence that belongs to none.
    table: QualifiedName | None
    column: str | None
    #: Type of the column, or of the sequence.
    data_type: str
    #: The highest value so far; None: never used, or not readable.
    last_value: int | None
    #: First and last value that the sequence gives.
    first: int = 1
    limit: int = _TYPE_MAX["bigint"]
    cycles: bool = False
    readable: bool = True

    def used_percent(self) -> float | None:
        """How much of the numbers is used up; None where nobody knows."""
        if self.last_value is None:
            return None
        limit = self.limit
        if self.limit > self.first and self.data_type in _TYPE_MAX:
            limit = min(limit, _TYPE_MAX[self.data_type])
        span = abs(limit - self.first)
        return round(100 * abs(self.last_value - self.first) / span, 1) if span else 100.0


@dataclass(frozen=True)
class Session:
    """Another session of this database; what is None is hidden from this user, or not there."""

    pid: int
    #: ISO 8601, so that a number that another session got meanwhile is not mistaken for this one.
    started_at: str | None
    user: str | None
    application: str | None
    state: str | None
    transaction_s: float | None
    state_s: float | None
    #: Statement that ends it, quoted by the driver.
    terminate: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class Prepared:
    """A transaction that waits for its second phase."""

    gid: str
    age_s: float
    #: Statement that rolls it back, quoted by the driver.
    rollback: str


@dataclass(frozen=True)
class Slot:
    """A replication slot."""

    name: str
    kind: str
    active: bool
    #: As ``pg_replication_slots.wal_status``.
    wal_status: str | None
    retained_bytes: int | None
    #: Statement that drops it, quoted by the driver.
    drop: str = ""


@dataclass(frozen=True)
class Setting:
    """A configuration parameter as this session sees it."""

    value: str
    #: As ``pg_settings.source``.
    source: str


@dataclass(frozen=True)
class Server:
    """What was read of the server and of the database as a whole."""

    database: str
    databases: Sequence[tuple[str, int, int]]
    keys: Sequence[Key]
    sessions: Sequence[Session]
    prepared: Sequence[Prepared]
    slots: Sequence[Slot]
    settings: Mapping[str, Setting]
    database_bytes: int | None
    #: Pages found in the cache, and pages asked of the operating system.
    hit_pages: int
    read_pages: int
    #: None where checksums are off.
    checksum_failures: int | None


@dataclass(frozen=True)
class Limits:
    """From when on something is a finding."""

    xid_age: int
    key_percent: float
    idle_transaction_s: int
    long_transaction_s: int
    slot_wal_bytes: int


def cache_hit_percent(server: Server) -> float | None:
    """Share of page reads that the cache answered; None where nothing was read.

    What the operating system's own cache answered counts as a read.
    """
    total = server.hit_pages + server.read_pages
    return round(100 * server.hit_pages / total, 2) if total else None


def wraparound(tables: Iterable[Table], server: Server, quote: Callable[..., str], *, limit: int) -> list[Finding]:
    """Tables, and other databases, whose oldest row is at least ``limit`` transactions or multixacts old."""

    def severity(age: int) -> Severity:
        return "critical" if age >= XID_CRITICAL_SHARE * XID_STOP else "warning"

    found = []
    for table in tables:
        for unit, age in (("transactions", table.xid_age), ("multixacts", table.mxid_age)):
            if age is None or age < limit:
                continue
            percent = round(100 * age / XID_STOP, 1)
            found.append(
                Finding(
                    finding_id("wraparound", *table.name),
                    "wraparound",
                    severity(age),
                    str(table.name),
                    {
                        "age_transactions" if unit == "transactions" else "age_multixacts": age,
                        "limit": limit,
                        "share_of_stop_percent": percent,
                        "size_bytes": table.size_bytes,
                    },
                    f"{table.name} has rows that are {age:,} {unit} old, {percent:g} % of the way to the stop of all "
                    "writes.",
                    (f"VACUUM (FREEZE) {quote(*table.name)}",),
                    "Reads the table and its indexes and writes each page that is not frozen; everybody works on.",
                )
            )
            break
    for name, xid_age, mxid_age in server.databases:
        age = max(xid_age, mxid_age)
        if name != server.database and age >= limit:
            found.append(
                Finding(
                    finding_id("wraparound_database", name),
                    "wraparound_database",
                    severity(age),
                    name,
                    {"age_transactions": xid_age, "age_multixacts": mxid_age, "limit": limit},
                    f"The database {name} on this server is {count(age, 'transaction')} old; its stop stops all "
                    f"databases.",
                    (),
                    "To be fixed there: run this on that database.",
                )
            )
    return found


def keys(found_keys: Iterable[Key], quote: Callable[..., str], *, limit_percent: float) -> list[Finding]:
    """Columns and sequences of whose numbers at least ``limit_percent`` are used up."""
    worst: dict[str, Finding] = {}
    for key in found_keys:
        percent = key.used_percent()
        if percent is None or percent < limit_percent or key.cycles:
            continue
        severity: Severity = "critical" if percent >= KEY_CRITICAL_PERCENT else "warning"
        if key.table is not None and key.column is not None:
            named = f"{key.table}.{key.column}"
            made = finding_id("key_near_end", *key.table, key.column)
        else:
            named = str(key.sequence)
            made = finding_id("key_near_end", *(key.sequence or ("?",)))
        evidence = {
            "data_type": key.data_type,
            "last_value": key.last_value,
            "used_percent": percent,
            "sequence": None if key.sequence is None else str(key.sequence),
        }
        risk = (
            "A column becomes bigint by a new column that is filled bit by bit and takes the old one's place; ALTER "
            "COLUMN TYPE would lock and rewrite the table."
        )
        ddl: tuple[str, ...] = ()
        if key.table is None and key.sequence is not None and key.data_type != "bigint":
            ddl = (f"ALTER SEQUENCE {quote(*key.sequence)} AS bigint",)
            risk = "Takes a lock on the sequence for a moment; what its numbers go into must take them."
        elif key.data_type == "bigint" and key.sequence is not None:
            ddl = (f"ALTER SEQUENCE {quote(*key.sequence)} NO MAXVALUE",)
            risk = "Takes a lock on the sequence for a moment."
        finding = Finding(
            made,
            "key_near_end",
            severity,
            named,
            evidence,
            f"{named} ({key.data_type}) has used up {percent:g} % of its numbers: the last one is {key.last_value:,}.",
            ddl,
            risk,
        )
        known = worst.get(made)
        if known is None or known.evidence["used_percent"] < percent:
            worst[made] = finding
    return list(worst.values())


def hidden_keys(found_keys: Iterable[Key]) -> list[Unknown]:
    """Sequences, and keys that no sequence fills, whose values this user may not read."""
    names = [str(key.sequence or f"{key.table}.{key.column}") for key in found_keys if not key.readable]
    if not names:
        return []
    return [
        Unknown(
            "key_near_end",
            f"Their last value is hidden: {some(names)}. Run playbooks/db_roles.yml again, or GRANT SELECT on them to "
            "this user.",
        )
    ]


def sessions(server: Server, limits: Limits) -> tuple[list[Finding], list[Unknown]]:
    """Sessions that hold locks and old rows: idle in a transaction, or in one that lasts for hours."""
    found = []
    for one in server.sessions:
        idle = one.state is not None and one.state.startswith("idle in transaction")
        if idle and (one.state_s or 0) >= limits.idle_transaction_s:
            kind, severity, seconds = "idle_transaction", "warning", one.state_s or 0
            said = f"has been idle in a transaction for {seconds:,.0f} s; what it locked stays locked"
        elif not idle and (one.transaction_s or 0) >= limits.long_transaction_s:
            kind, severity, seconds = "long_transaction", "info", one.transaction_s or 0
            said = f"has been in one transaction for {seconds:,.0f} s; no row deleted since can be cleared away"
        else:
            continue
        who = " of ".join(filter(None, (one.application, one.user))) or "unknown"
        found.append(
            Finding(
                finding_id(kind, str(one.pid)),
                kind,
                "warning" if severity == "warning" else "info",
                f"session {one.pid}",
                {
                    "pid": one.pid,
                    "state": one.state,
                    "state_s": one.state_s,
                    "transaction_s": one.transaction_s,
                    "user": one.user,
                    "application": one.application,
                    "started_at": one.started_at,
                },
                f"Session {one.pid} ({who}) {said}.",
                (one.terminate,),
                "Its transaction is rolled back, and its client must connect again.",
            )
        )
    for prepared in server.prepared:
        if prepared.age_s >= limits.idle_transaction_s:
            found.append(
                Finding(
                    finding_id("prepared_transaction", prepared.gid),
                    "prepared_transaction",
                    "warning",
                    f"prepared transaction {prepared.gid}",
                    {"age_s": prepared.age_s},
                    f"The prepared transaction {prepared.gid} has waited for its second phase for "
                    f"{prepared.age_s:,.0f} s; it outlives restarts, and what it locked stays locked.",
                    (prepared.rollback,),
                    "What it wrote is lost; ask the transaction manager that made it first.",
                )
            )
    hidden = sum(one.hidden for one in server.sessions)
    if not hidden:
        return found, []
    sessions = count(hidden, "session hides its", "sessions hide their")
    fix = f"{sessions} state from this user: GRANT pg_read_all_stats to it."
    return found, [Unknown("idle_transaction", fix), Unknown("long_transaction", fix)]


def slots(server: Server, *, wal_bytes: int) -> list[Finding]:
    """Replication slots that hold back at least ``wal_bytes`` of WAL, or have lost what they need."""
    found = []
    for slot in server.slots:
        lost = slot.wal_status in ("lost", "unreserved")
        if not lost and (slot.retained_bytes or 0) < wal_bytes:
            continue
        reader = "has a reader that lags" if slot.active else "has no reader"
        if slot.wal_status == "lost":
            said = f"has lost WAL that its reader needs, and {reader}"
        else:
            said = f"holds {size(slot.retained_bytes)} of WAL and {reader}; it may fill the disk"
        found.append(
            Finding(
                finding_id("replication_slot", slot.name),
                "replication_slot",
                "critical" if lost else "warning",
                f"replication slot {slot.name}",
                {
                    "retained_bytes": slot.retained_bytes,
                    "wal_status": slot.wal_status,
                    "active": slot.active,
                    "slot_type": slot.kind,
                },
                f"The {slot.kind} replication slot {slot.name} {said}.",
                () if slot.active else (slot.drop,),
                "Let its reader catch up, or find out why it does not."
                if slot.active
                else "Its reader, if there is still one, must be built again.",
            )
        )
    return found


def pages(server: Server) -> tuple[list[Finding], list[Unknown]]:
    """Checksum failures, and a cache that answers too few reads."""
    found, unknown = [], []
    if server.checksum_failures is None:
        unknown.append(
            Unknown(
                "checksum_failures",
                "Data checksums are off, so damaged pages go unseen; pg_checksums sets them.",
                False,
            )
        )
    elif server.checksum_failures:
        found.append(
            Finding(
                finding_id("checksum_failures", server.database),
                "checksum_failures",
                "critical",
                server.database,
                {"failures": server.checksum_failures},
                f"{count(server.checksum_failures, 'page')} with a wrong checksum "
                f"{agree(server.checksum_failures, 'was', 'were')} read: files of the database are damaged.",
                (),
                "Verify the newest backup at once, before it is thinned out, and look at the disk; the server's log "
                "names the pages.",
            )
        )
    percent = cache_hit_percent(server)
    if percent is not None and percent < CACHE_HIT_PERCENT and server.read_pages * PAGE_BYTES >= CACHE_READ_BYTES:
        found.append(
            Finding(
                finding_id("cache_hit_ratio", server.database),
                "cache_hit_ratio",
                "info",
                server.database,
                {"hit_percent": percent, "hit_pages": server.hit_pages, "read_pages": server.read_pages},
                f"The cache answered {percent:g} % of {count(server.hit_pages + server.read_pages, 'page read')}, less "
                f"than "
                f"{CACHE_HIT_PERCENT:g} %.",
                (),
                "Look at sequential scans and the heaviest queries first, then at shared_buffers.",
            )
        )
    return found, unknown


#: What a setting should be, how bad it is if not, and what then happens.
_SHOULD_BE: Mapping[str, tuple[str, Severity, str]] = {
    "fsync": ("on", "critical", "a crash of the machine may destroy the database"),
    "full_page_writes": ("on", "critical", "a crash of the machine may leave torn pages"),
    "zero_damaged_pages": ("off", "critical", "damaged pages are emptied without a word"),
    "ignore_checksum_failure": ("off", "critical", "damaged pages are read as if they were sound"),
    "autovacuum": ("on", "critical", "dead rows stay, statistics age, and the stop of all writes draws near"),
    "track_counts": ("on", "critical", "autovacuum does nothing, and no one counts"),
    "synchronous_commit": ("on", "warning", "a crash loses transactions that were reported as committed"),
    "enable_indexscan": ("on", "warning", "the planner avoids indexes"),
    "enable_indexonlyscan": ("on", "warning", "the planner avoids reading indexes alone"),
    "enable_bitmapscan": ("on", "warning", "the planner avoids combining indexes"),
    "enable_seqscan": ("on", "warning", "the planner takes an index where reading all is faster"),
    "enable_hashjoin": ("on", "warning", "the planner avoids hash joins"),
    "enable_mergejoin": ("on", "warning", "the planner avoids merge joins"),
    "enable_nestloop": ("on", "warning", "the planner avoids nested loops"),
    "enable_sort": ("on", "warning", "the planner avoids sorting"),
}  # fmt: skip
#: Values that are as good.
_STRONGER = {"synchronous_commit": {"remote_apply", "remote_write", "local"}}
#: Settings that the driver reads.
SETTINGS = (*_SHOULD_BE, "shared_buffers")


def settings(server: Server, quote: Callable[..., str]) -> list[Finding]:
    """Settings that hurt, whoever set them."""
    found = []
    for name, (wanted, severity, harm) in _SHOULD_BE.items():
        setting = server.settings.get(name)
        if setting is None or setting.value == wanted or setting.value in _STRONGER.get(name, ()):
            continue
        ddl, risk = _undo(name, setting, server.database, quote)
        found.append(
            Finding(
                finding_id("setting", name),
                "setting",
                severity,
                name,
                {"value": setting.value, "source": setting.source, "recommended": wanted},
                f"{name} is {setting.value} ({setting.source}): {harm}.",
                ddl,
                risk,
            )
        )
    buffers = server.settings.get("shared_buffers")
    if (
        buffers is not None
        and int(buffers.value) * PAGE_BYTES <= DEFAULT_SHARED_BUFFERS_BYTES
        and (server.database_bytes or 0) >= BIG_DATABASE_BYTES
    ):
        bytes_ = int(buffers.value) * PAGE_BYTES
        found.append(
            Finding(
                finding_id("setting", "shared_buffers"),
                "setting",
                "warning",
                "shared_buffers",
                {"value_bytes": bytes_, "source": buffers.source, "database_bytes": server.database_bytes},
                f"shared_buffers is {size(bytes_)} for a database of {size(server.database_bytes)}.",
                (),
                "A quarter of the machine's memory is a usual value; the change needs a restart.",
            )
        )
    return found


def _undo(name: str, setting: Setting, database: str, quote: Callable[..., str]) -> tuple[tuple[str, ...], str]:
    """Statements that take a setting back, and what they cost."""
    if setting.source == "database":
        return (f"ALTER DATABASE {quote(database)} RESET {name}",), "New sessions get the server's value."
    if setting.source == "configuration file":
        return (
            (f"ALTER SYSTEM SET {name} = {_SHOULD_BE[name][0]}", "SELECT pg_reload_conf()"),
            "It overrides the configuration file, for all databases of the server.",
        )
    return (), f"It was set by {setting.source}, so it must be changed there."


def judge(
    tables: Iterable[Table], server: Server, quote: Callable[..., str], limits: Limits
) -> tuple[list[Finding], list[Unknown]]:
    """Everything about the health of a database: findings, and what could not be judged.

    :param quote: quotes an identifier, or several that are joined by dots
    """
    held, hidden = sessions(server, limits)
    damaged, unseen = pages(server)
    found = wraparound(tables, server, quote, limit=limits.xid_age)
    found += keys(server.keys, quote, limit_percent=limits.key_percent)
    found += [*held, *slots(server, wal_bytes=limits.slot_wal_bytes), *damaged, *settings(server, quote)]
    return found, [*hidden_keys(server.keys), *hidden, *unseen]
