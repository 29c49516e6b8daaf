"""The rules of recovery to a point in time: windows, gaps, timelines, targets, health, set-up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import archiving, pitr_retention, pitr_setup, recovery, wal_archive
from ansible.module_utils.runbook.rules.backup.archiving import Archiver, Limits
from ansible.module_utils.runbook.rules.backup.pitr_setup import Setting
from ansible.module_utils.runbook.rules.backup.recovery import Target
from ansible.module_utils.runbook.rules.backup.wal_archive import Archive, Backup, Fork, Segment

MB16 = 1 << 24
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIMITS = Limits(max_lag_s=60, max_backup_age_s=93_600, recovery_window_days=30)


def minute(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def backup(name: str, first: int, at: float, *, timeline: int = 1, tablespaces=()) -> Backup:
    """A base backup that lies in segment ``first`` and ended at minute ``at``."""
    return Backup(
        name, timeline, first * MB16 + 40, first * MB16 + 4000, minute(at - 0.5), minute(at), "7", 150018, tablespaces
    )


def archive(numbers, backups, *, timeline: int = 1, more=(), histories=None) -> Archive:
    """Segments of one timeline, each archived in the minute of its number, and ``more`` of others."""
    segments = {Segment(timeline, number): minute(number) for number in numbers}
    segments |= {Segment(line, number): minute(number) for line, number in more}
    return Archive(MB16, segments, histories or {}, backups)


@pytest.mark.parametrize("size", [1 << 20, MB16, 1 << 30])
def test_names_go_there_and_back(size):
    for number in (0, 1, (1 << 32) // size - 1, (1 << 32) // size, 12345):
        segment = Segment(3, number)
        assert wal_archive.parse_segment(segment.file(size), size) == segment


@pytest.mark.parametrize(
    "name",
    ["00000002.history", "000000010000000000000028.00000028.backup", "000000010000000000000028.partial",
     "0000000100000000000001FF", "00000001000000000000002g", ""],
)  # fmt: skip
def test_other_names_are_no_segments(name):
    assert wal_archive.parse_segment(name, MB16) is None


def test_nothing_archived_is_nothing_restorable():
    assert wal_archive.windows(Archive(MB16, {}, {}, [])) == []
    assert wal_archive.windows(archive(range(5), [])) == []
    assert wal_archive.windows(archive([], [backup("a", 2, 2)])) == []


def test_a_backup_alone_is_restorable_once_its_own_wal_is_there():
    (found,) = wal_archive.windows(archive([2], [backup("a", 2, 2)]))
    assert (found.start, found.end, found.last) == (minute(2), minute(2), 2)
    assert wal_archive.windows(archive([3, 4], [backup("a", 2, 2)])) == []


def test_window_ends_at_the_first_gap():
    (found,) = wal_archive.windows(archive([2, 3, 4, 6, 7, 10], [backup("a", 2, 2)]))
    assert (found.last, found.end) == (4, minute(4))
    assert found.gaps == (
        ("000000010000000000000005", "000000010000000000000005"),
        ("000000010000000000000008", "000000010000000000000009"),
    )


def test_a_backup_behind_the_gap_opens_a_window_of_its_own():
    found = wal_archive.windows(archive([2, 3, 5, 6, 7], [backup("a", 2, 2), backup("b", 6, 6)]))
    assert wal_archive.spans(found) == [(minute(2), minute(3)), (minute(6), minute(7))]


def test_windows_that_touch_are_one_span():
    found = wal_archive.windows(archive(range(2, 9), [backup("a", 2, 2), backup("b", 6, 6)]))
    assert wal_archive.spans(found) == [(minute(2), minute(8))]


def test_timeline_is_left_inside_a_segment():
    """Segment 4 stands there twice; the old timeline goes on to 6 without us."""
    forks = {2: (Fork(1, 4 * MB16 + 500),)}
    made = archive(range(2, 7), [backup("a", 2, 2)], more=[(2, 4), (2, 5)], histories=forks)
    (new,) = wal_archive.windows(made)
    assert (new.timeline, new.last, new.gaps) == (2, 5, ())
    (old,) = wal_archive.windows(made, 1)
    assert (old.timeline, old.last) == (1, 6)


def test_the_older_copy_of_the_shared_segment_will_do():
    forks = {2: (Fork(1, 4 * MB16 + 500),)}
    made = archive([2, 3, 4], [backup("a", 2, 2)], more=[(2, 5)], histories=forks)
    assert wal_archive.windows(made)[0].last == 5


def test_a_gap_behind_the_fork_is_named_by_the_new_timeline():
    forks = {2: (Fork(1, 4 * MB16 + 500),)}
    made = archive([2, 3, 4, 5, 6], [backup("a", 2, 2)], more=[(2, 4), (2, 6)], histories=forks)
    (found,) = wal_archive.windows(made)
    assert found.gaps == (("000000020000000000000005", "000000020000000000000005"),)


def test_a_backup_of_the_branch_that_was_left_leads_nowhere():
    forks = {2: (Fork(1, 4 * MB16 + 500),)}
    made = archive(range(2, 7), [backup("late", 5, 5)], more=[(2, 4), (2, 5)], histories=forks)
    assert wal_archive.windows(made) == []
    assert [each.backup.backup_id for each in wal_archive.windows(made, 1)] == ["late"]


BOTH = archive(range(2, 9), [backup("a", 2, 2), backup("b", 6, 6)])


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        (Target(), "b"),
        (Target(time=minute(2)), "a"),
        (Target(time=minute(5.9)), "a"),
        (Target(time=minute(6)), "b"),
        (Target(time=minute(8)), "b"),
        # S3 says when it took the last segment in whole seconds, rounded down.
        (Target(time=minute(8) + timedelta(seconds=0.9)), "b"),
        (Target(lsn=2 * MB16 + 4000), "a"),
        (Target(lsn=6 * MB16 + 3999), "a"),
        (Target(lsn=6 * MB16 + 4000), "b"),
        (Target(lsn=9 * MB16), "b"),
        (Target(name="before the release"), "b"),
    ],
)
def test_newest_backup_that_leads_to_the_target(target, chosen):
    assert recovery.choose(BOTH, target, timeline=None, backup_id=None).backup.backup_id == chosen


@pytest.mark.parametrize(
    "target",
    [Target(time=minute(1.9)), Target(time=minute(8.1)), Target(lsn=2 * MB16 + 3999), Target(lsn=9 * MB16 + 1)],
)
def test_a_target_outside_is_refused_with_the_window(target):
    with pytest.raises(RunbookError, match=r"2026-11-23 12:02:00 UTC to 2026-11-23 12:08:00 UTC"):
        recovery.choose(BOTH, target, timeline=None, backup_id=None)


def test_refusals_name_the_fix():
    broken = archive([2, 3, 5], [backup("a", 2, 2)])
    with pytest.raises(RunbookError, match="000000010000000000000004 missing"):
        recovery.choose(broken, Target(time=minute(5)), timeline=None, backup_id=None)
    with pytest.raises(RunbookError, match="end of the archive cannot be reached"):
        recovery.choose(broken, Target(), timeline=None, backup_id=None)
    assert recovery.choose(broken, Target(time=minute(3)), timeline=None, backup_id=None).last == 3
    with pytest.raises(RunbookError, match="there are a, b"):
        recovery.choose(BOTH, Target(), timeline=None, backup_id="c")
    with pytest.raises(RunbookError, match="the newest is 1"):
        recovery.choose(BOTH, Target(), timeline=2, backup_id=None)
    with pytest.raises(RunbookError, match="nothing, because no base backup is complete"):
        recovery.choose(archive([], []), Target(time=NOON), timeline=None, backup_id=None)


def test_targets_are_read():
    assert recovery.parse_target(None, None, None) == Target()
    assert recovery.parse_target("2026-11-23T13:00:00+01:00", None, None).time == NOON
    assert recovery.parse_target("", "", "x") == Target(name="x")
    assert str(recovery.parse_target(None, "1/A0", None)) == "LSN 1/000000A0"
    for wrong in (("now", None, None), ("2026-11-23T12:00:00", None, None), (None, "12", None), ("x", "y", None)):
        with pytest.raises(RunbookError):
            recovery.parse_target(*wrong)


def test_history_is_read():
    text = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-23 12:00:00+00\n"
    assert wal_archive.parse_history(text) == (Fork(1, 0x3000148), Fork(2, 0x5000000))
    with pytest.raises(RunbookError, match="damaged"):
        wal_archive.parse_history("nonsense\n")


def archiver(**changed: Any) -> Archiver:
    base: dict[str, Any] = {
        "archive_mode": "on", "archived_count": 5, "failed_count": 0, "last_archived_wal": "x",
        "last_archived_at": NOON, "last_failed_wal": None, "last_failed_at": None,
    }  # fmt: skip
    return Archiver(**(base | changed))


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, "ok"),
        ({"archive_mode": "off"}, "breach"),
        ({"last_failed_at": minute(1), "last_failed_wal": "y"}, "breach"),
        ({"last_failed_at": minute(-1), "last_failed_wal": "y"}, "ok"),
        ({"last_archived_at": None}, "unknown"),
        ({"last_archived_at": None, "last_failed_at": NOON}, "breach"),
        ({"ready_segments": 1, "oldest_ready_s": 60.0}, "ok"),
        ({"ready_segments": 1, "oldest_ready_s": 60.1}, "breach"),
    ],
)
def test_archiver_is_judged(changed, status):
    assert archiving.judge_archiver(archiver(**changed), LIMITS).status == status


def test_archive_is_judged():
    def judged(made: Archive, now: datetime) -> dict[str, str]:
        return {each.name: each.status for each in archiving.judge_archive(made, LIMITS, now)}

    assert judged(BOTH, minute(9)) == {"backup_age": "ok", "gaps": "ok", "window": "ok"}
    assert judged(BOTH, minute(6) + timedelta(seconds=93_600))["backup_age"] == "ok"
    assert judged(BOTH, minute(6) + timedelta(seconds=93_601))["backup_age"] == "breach"
    assert judged(archive([2, 3, 5], [backup("a", 2, 2)]), NOON)["gaps"] == "breach"
    assert judged(archive([2, 3], []), NOON) == {"window": "breach"}


def settings(**changed: Setting) -> dict[str, Setting]:
    base = {
        "archive_mode": Setting("off", None, "default"),
        "wal_level": Setting("replica", None, "default"),
        "archive_command": Setting("(disabled)", None, "default"),
        "archive_timeout": Setting("0", None, "default"),
        "archive_library": Setting("", None, "default"),
    }
    return base | changed


def test_setup_is_planned():
    plan = pitr_setup.plan_setup(settings(), "ship %p", 60)
    assert [(change.name, change.after) for change in plan.changes] == [
        ("archive_mode", "on"), ("archive_command", "ship %p"), ("archive_timeout", "60"),
    ]  # fmt: skip
    assert plan.restart_for == ("archive_mode",)
    minimal = pitr_setup.plan_setup(settings(wal_level=Setting("minimal", None, "default")), "ship %p", 60)
    assert minimal.restart_for == ("archive_mode", "wal_level")


def test_setup_that_waits_for_its_restart_changes_nothing_more():
    written = settings(
        archive_mode=Setting("off", "on", "default"),
        archive_command=Setting("(disabled)", "ship %p", "configuration file"),
        archive_timeout=Setting("60", "60", "configuration file"),
    )
    assert pitr_setup.plan_setup(written, "ship %p", 60) == pitr_setup.SetupPlan((), ("archive_mode",))


@pytest.mark.parametrize("level", ["replica", "logical"])
def test_setup_that_is_done_is_done(level):
    done = settings(
        archive_mode=Setting("always", "always", "configuration file"),
        wal_level=Setting(level, None, "default"),
        archive_command=Setting("ship %p", "ship %p", "configuration file"),
        archive_timeout=Setting("60", "60", "configuration file"),
    )
    assert pitr_setup.plan_setup(done, "ship %p", 60) == pitr_setup.SetupPlan()


def test_setup_refuses_what_would_win_over_it():
    with pytest.raises(RunbookError, match="command line"):
        pitr_setup.plan_setup(settings(archive_mode=Setting("off", None, "command line")), "ship %p", 60)
    with pytest.raises(RunbookError, match="archive_library"):
        pitr_setup.plan_setup(settings(archive_library=Setting("basic_archive", None, "default")), "ship %p", 60)


def test_identity():
    assert archiving.check_identity(None, "7", where="s3://b/p/", occupied=False)
    assert not archiving.check_identity("7", "7", where="s3://b/p/", occupied=True)
    with pytest.raises(RunbookError, match="archive of cluster 8"):
        archiving.check_identity("8", "7", where="s3://b/p/", occupied=True)
    with pytest.raises(RunbookError, match="did not put there"):
        archiving.check_identity(None, "7", where="s3://b/p/", occupied=True)


def test_a_copy_that_was_left_behind_does_not_archive():
    archiving.check_timeline(BOTH, Segment(1, 8), None)
    with pytest.raises(RunbookError, match="did not write"):
        archiving.check_timeline(BOTH, Segment(1, 7), None)
    forked = archive([], [], histories={2: (Fork(1, 500),)})
    archiving.check_timeline(forked, Segment(2, 1), (Fork(1, 500),))
    with pytest.raises(RunbookError, match="did not write"):
        archiving.check_timeline(forked, Segment(2, 1), (Fork(1, 400),))


def test_a_server_that_was_left_behind_is_told_so():
    forked = archive([2, 3], [], more=[(2, 3)], histories={2: (Fork(1, 3 * MB16 + 5),)})
    assert archiving.judge_timeline(forked, 2).status == "ok"
    assert archiving.judge_timeline(forked, 1).status == "breach"
    with pytest.raises(RunbookError, match="another one took its place"):
        archiving.check_timeline(forked, Segment(1, 3), None)


def test_commands_survive_the_shell():
    line = pitr_setup.shell_line({"A": "it's 100%"}, ["/o dd/tool", "--x=$(id)"], placeholders=["%p"])
    assert line == """env A='it'"'"'s 100%%' '/o dd/tool' '--x=$(id)' %p"""


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "ä", "x" * 64, "a;b", "$(id)"])
def test_names_that_a_shell_could_read_are_refused(name):
    with pytest.raises(RunbookError, match="server: "):
        pitr_setup.check_name(name, "server")


def test_backups_of_the_engine_are_read():
    found = {
        "backup_id": "20261123T120000", "status": "DONE", "timeline": 1, "begin_xlog": "0/2000028",
        "end_xlog": "0/2000120", "begin_time_iso": "2026-11-23T12:00:00+00:00", "systemid": "7", "version": 150018,
        "end_time_iso": "2026-11-23T12:01:00+00:00", "tablespaces": [["fast", 16384, "/ssd"]],
    }  # fmt: skip
    made = wal_archive.parse_backup(found)
    assert made is not None
    assert (made.backup_id, made.begin_lsn, made.tablespaces) == ("20261123T120000", 0x2000028, (("fast", "/ssd"),))
    assert wal_archive.parse_backup(found | {"status": "FAILED"}) is None
    assert wal_archive.parse_backup(found | {"status": "STARTED", "end_xlog": None}) is None
    assert pitr_retention.expired(
        "would delete base/20261123T120000/data.tar", ["20261123T120000", "20261124T120000"]
    ) == ["20261123T120000"]


def test_a_retention_takes_no_more_than_is_expected():
    known = [str(number) for number in range(20)]
    pitr_retention.check_removal(known[:10], known, max_delete=10, max_delete_percent=50)
    pitr_retention.check_removal([], [], max_delete=0, max_delete_percent=0)
    with pytest.raises(RunbookError, match=r"max_delete: 11 base backups .* at most 10 .* -e pitr_max_delete=<number>"):
        pitr_retention.check_removal(known[:11], known, max_delete=10, max_delete_percent=100)
    with pytest.raises(RunbookError, match=r"max_delete_percent: 3 of 5 base backups .* at most 50 %"):
        pitr_retention.check_removal(known[:3], known[:5], max_delete=10, max_delete_percent=50)


def test_a_server_that_hands_no_segment_on_is_told_so():
    assert not archiver(archive_mode="off").archives
    idle = archiver(is_idle=True)
    assert not idle.archives
    found = archiving.judge_archiver(idle, LIMITS)
    assert (found.status, "archive_command is empty" in found.msg) == ("breach", True)


def test_whose_archive_it_is_is_told_from_one_that_nobody_could_look_at():
    where = "s3://bucket/pitr/main/"
    assert archiving.judge_owner("7", "7", where=where) is None
    assert archiving.judge_owner("7", None, where=where) is None
    assert archiving.require_owner("7", None, where=where) == "7"
    for marked, wanted, said in ((None, "7", "there is no archive"), ("8", "7", "is the archive of cluster 8")):
        judged = archiving.judge_owner(marked, wanted, where=where)
        assert judged is not None
        assert judged.status == "breach"
        assert said in judged.msg
        with pytest.raises(RunbookError, match=said):
            archiving.require_owner(marked, wanted, where=where)
