"""How large a batch of pg_archive is, when it pauses, and what the batches so far have moved.

The size of a batch adapts to a target time, so that whoever waits for a lock of it waits no longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_BATCH_ROWS = 500
MAX_BATCH_ROWS = 50_000
#: One batch may be at most this many times as large as the one before it.
GROWTH = 2.0


def next_batch(asked: int, moved: int, duration_ms: float, target_ms: int) -> int:
    """How many rows the next batch takes, from how long the last one took.

    The rate of the last batch says how many rows fit into the target time. A batch grows to at most :data:`GROWTH`
    times the last one, since one lucky batch says little; it shrinks at once as far as it must, since a long batch
    is what users feel, but to no less than an eighth, so that one stalled disk write does not stop the run.

    :param asked: rows that the last batch was to take
    :param moved: rows that it took; less than half of ``asked`` says nothing about the rate
    """
    if duration_ms <= 0 or moved < asked / 2:
        fits = float(asked if duration_ms <= target_ms else asked / 2)
    else:
        fits = moved * target_ms / duration_ms
    return max(1, min(MAX_BATCH_ROWS, int(max(asked / 8, min(asked * GROWTH, fits)))))


def pause_s(duration_ms: float, target_ms: int) -> float:
    """Seconds to pause after a batch that overshot its target, so that waiting users get their turn.

    A batch of up to twice the target time needs no pause. Beyond that the pause is as long as the overshoot, but no
    longer than the target time: a machine that is slow as a whole does not get faster by waiting.
    """
    return min(target_ms, max(0.0, duration_ms - 2 * target_ms)) / 1000


def wal_pause_s(wal_bytes: int, elapsed_s: float, max_wal_bytes_s: int | None) -> float:
    """Seconds to wait until the server's WAL since the start is within the allowed mean rate; None allows any rate."""
    if not max_wal_bytes_s:
        return 0.0
    return max(0.0, wal_bytes / max_wal_bytes_s - elapsed_s)


@dataclass
class Tally:
    """What was done so far."""

    moved: int = 0
    #: Deleted from the source because the archive held the same.
    already: int = 0
    batches: int = 0
    oldest: str | None = None
    newest: str | None = None
    longest_s: float = 0.0
    throttled_s: float = 0.0
    wal_bytes: int = 0
    #: Old rows that are still in the source; None as long as nobody counted them.
    remaining: int | None = None
    #: Those of them whose key the archive holds with other content.
    conflicts: int = 0
    partitions: list[str] = field(default_factory=list)
    created: bool = False
    #: The archive was made, or got its key.
    altered: bool = False

    def add(self, rows: int, took_s: float, oldest: str | None, newest: str | None) -> None:
        """Note one transaction that moved rows."""
        self.moved += rows
        self.batches += 1
        self.longest_s = max(self.longest_s, took_s)
        self.oldest = min((each for each in (self.oldest, oldest) if each is not None), key=moment_key, default=None)
        self.newest = max((each for each in (self.newest, newest) if each is not None), key=moment_key, default=None)


def moment_key(moment: str) -> tuple[bool, str]:
    """Sorts timestamps that the server wrote, of one type and before the year 10000, by time.

    >>> sorted(["2026-01-02", "-infinity", "0044-03-15 BC", "2026-01-01"], key=moment_key)
    ['-infinity', '0044-03-15 BC', '2026-01-01', '2026-01-02']
    """
    return (moment != "-infinity" and not moment.endswith(" BC"), moment)
