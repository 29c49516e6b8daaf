"""Settings that our sessions and the programs we start rely on.

A setting of the role or the database (``ALTER ROLE … SET``, ``ALTER DATABASE … SET``) is meant for an application. Ours
would read a literal differently, see fewer rows, refuse to write, or be ended in the middle; a copy would hold other
values than its source. So what is relied on is set, and what is not is left to the operator: memory, cost limits,
statistics, tablespaces, what the server logs.
"""

from __future__ import annotations

#: What every session and every program needs. A server that does not know a name is not told it.
PINNED: dict[str, str] = {
    # How a literal is read: in ours, and in the text of a dump.
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # How a value is written, and read again.
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmloption": "content",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    # Which rows are seen.
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",
    "restrict_nonsystem_relation_kind": "",
    # What a transaction may do, and what it sees.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "exit_on_error": "off",
    # What ends a session in the middle. Ours end by their own bounds.
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # A warning counts; what is below it does not.
    "client_min_messages": "notice",
    # A role that is made is not granted to its maker without a word.
    "createrole_self_grant": "",
}

#: Likewise, where only a superuser may set it. Any other value damages or loses data in silence, so a session that may
#: not set it is refused.
GUARDED: dict[str, str] = {
    "session_replication_role": "origin",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
}

#: Set where a superuser is connected, and done without elsewhere.
WISHED: dict[str, str] = {
    "lc_messages": "C",
    "track_counts": "on",
    "track_activities": "on",
    "lo_compat_privileges": "off",
}

#: Those without which PostgreSQL's programs would write or read other values, or be ended in the middle. They set the
#: others themselves, or are indifferent to them.
DECISIVE = frozenset({
    "array_nulls", "default_transaction_read_only", "exit_on_error", "idle_session_timeout", "IntervalStyle",
    "lc_monetary", "standard_conforming_strings", "transaction_timeout", "transform_null_equals", "xmloption", *GUARDED,
})  # fmt: skip
