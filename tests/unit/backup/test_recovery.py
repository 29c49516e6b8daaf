"""A restore to a point in time: what is refused before it, the server's settings, and what its end means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import defects, recovery
from ansible.module_utils.runbook.rules.backup.recovery import Target
from ansible.module_utils.runbook.rules.backup.wal_archive import Archive, Backup, Window

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MB16 = 1 << 24
BACKUP = Backup("a", 1, 2 * MB16, 2 * MB16 + 8, NOON, NOON, "7", 150_004, tablespaces=(("fast", "/mnt/fast"),))
WINDOW = Window(BACKUP, 1, 5, NOON, NOON)
ARCHIVE = Archive(MB16, {}, {}, [BACKUP])


def test_what_is_refused_before_anything_is_written():
    recovery.refuse_foreign("/srv/r", [])
    with pytest.raises(RunbookError, match=r"holds a, b, c, which no restore of this project put there"):
        recovery.refuse_foreign("/srv/r", ["a", "b", "c", "d"])
    recovery.refuse_done("/srv/r", "restoring")
    with pytest.raises(RunbookError, match="never overwrites one"):
        recovery.refuse_done("/srv/r", "done")
    recovery.check_room(free_bytes=1000, least_bytes=1000)
    with pytest.raises(RunbookError, match="999 bytes are free there, and the base backup has 1,000"):
        recovery.check_room(free_bytes=999, least_bytes=1000)
    recovery.check_copy(WINDOW, tablespaces={"fast"}, bindir="/usr/lib", found_major=15)
    with pytest.raises(RunbookError, match="tablespaces: the backup has fast"):
        recovery.check_copy(WINDOW, tablespaces=(), bindir="/usr/lib", found_major=15)
    with pytest.raises(RunbookError, match="the backup is of PostgreSQL 15, and /usr/lib holds 18"):
        recovery.check_copy(WINDOW, tablespaces={"fast"}, bindir="/usr/lib", found_major=18)


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (Target(), {}),
        (Target(time=NOON), {"recovery_target_time": "2026-11-23T12:00:00+00:00"}),
        (Target(lsn=(1 << 32) + 160), {"recovery_target_lsn": "1/A0"}),
        (Target(name="x"), {"recovery_target_name": "x"}),
    ],
)
def test_a_server_recovers_to_its_target_and_archives_nothing(target, named):
    found = recovery.settings(
        target, restore_command="fetch", port=5433, timeline=None, action="pause", more={"shared_buffers": 128}
    )
    assert {name: value for name, value in found.items() if name.startswith("recovery_target_")} == named | {
        "recovery_target_timeline": "latest", "recovery_target_action": "pause"
    }  # fmt: skip
    assert (found["archive_command"], found["listen_addresses"], found["shared_buffers"]) == ("", "127.0.0.1", "128")


def test_why_a_recovery_did_not_get_there():
    log = {"log": "/srv/r/server.log", "trouble": "The recovery did not end within deadline_s."}
    short = "recovery ended before configured recovery target was reached"
    said = recovery.unreached(Target(time=NOON), fatal=short, last_commit=NOON, has_ended=True, **log)
    assert "the last commit that could be replayed is of 2026-11-23 12:00:00" in said.message
    said = recovery.unreached(Target(), fatal=short, last_commit=None, has_ended=True, **log)
    assert ("no commit could be replayed" in said.message, said.code) == (True, defects.WAL_DAMAGED)
    gone = recovery.unreached(Target(), fatal="out of memory", last_commit=None, has_ended=True, **log)
    assert (gone.message, gone.code) == ("The restored server ended: out of memory; see /srv/r/server.log.", "")
    late = recovery.unreached(Target(), fatal="", last_commit=None, has_ended=False, **log)
    assert late.message == "The recovery did not end within deadline_s. See /srv/r/server.log."
    cut = 'could not restore file "000000010000000000000028" from archive'
    assert recovery.unreached(Target(), fatal=cut, last_commit=None, has_ended=True, **log).code == defects.WAL_DAMAGED
    assert recovery.could_not_fetch(cut)
    assert not recovery.could_not_fetch("out of memory")


def test_what_was_restored_is_what_was_asked_for():
    recovery.check_reached(ARCHIVE, WINDOW, Target(), system_identifier="7", lsn="0/6000000")
    recovery.check_reached(ARCHIVE, WINDOW, Target(time=NOON), system_identifier="7", lsn="0/3000000")
    with pytest.raises(RunbookError, match="the WAL after that position is damaged"):
        recovery.check_reached(ARCHIVE, WINDOW, Target(), system_identifier="7", lsn="0/5000000")
    with pytest.raises(RunbookError, match="another cluster") as refused:
        recovery.check_reached(ARCHIVE, WINDOW, Target(), system_identifier="8", lsn="0/6000000")
    assert refused.value.status == "unknown"
