"""What a drill keeps of a restored server's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible.module_utils.runbook.rules.drill import server_log

NOW = datetime(2026, 2, 10, 14, 0, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOW - timedelta(minutes=minute)


def test_a_kept_log_has_no_statement_and_no_row():
    prefix = "2026-02-10 14:00:00.000 UTC [4711] "
    kept = [
        "LOG:  starting point-in-time recovery to 2026-02-10 13:00:00+00",
        "LOG:  invalid record length at 0/3000060: expected at least 24, got 0",
        'FATAL:  could not restore file "000000010000000000000003" from archive: command terminated',
    ]
    dropped = [
        'ERROR:  invalid input syntax for type integer: "canary"',
        "DETAIL:  Key (email)=(canary) already exists.",
        "STATEMENT:  INSERT INTO people VALUES ('canary')",
        'CONTEXT:  COPY people, line 1: "canary"',
        "LOG:  statement: SELECT 'canary'",
        "LOG:  duration: 2.1 ms  execute s1: SELECT 'FATAL:  canary'",
        "LOG:  AUDIT: SESSION,1,1,WRITE,INSERT,,,INSERT INTO people VALUES ('canary')",
    ]
    lines = [prefix + each for pair in zip(dropped, kept * 3, strict=False) for each in pair]
    text = "\n".join([*lines, "\tFATAL:  canary", "canary without a severity"])
    found = server_log.log_without_rows(text)
    assert "canary" not in found
    assert set(found.splitlines()) == {prefix + each for each in kept}
    assert len(server_log.log_without_rows("FATAL:  no\n" * 1000).splitlines()) == 200
