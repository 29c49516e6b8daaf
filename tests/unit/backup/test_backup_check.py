"""What makes a set of backups good, at the borders."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import backup_check as rules
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.status import Status

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ROOT = "logical/mental_scribe/"


def name(*, hours: float) -> str:
    """A backup that began so many hours ago."""
    return manifests.backup_id(NOW - timedelta(hours=hours))


def listing(*complete: float, begun: tuple[float, ...] = (), **extra: int) -> rules.Stored:
    """Backups by their age in hours; ``begun`` have no manifest, ``extra`` objects lie in each."""
    found = []
    for hours in complete:
        objects = {"manifest.json": 100, "data-00.dump.zst": 1000} | {
            key.replace("__", "-").replace("_json", ".json"): size for key, size in extra.items()
        }
        found += [(f"{ROOT}{name(hours=hours)}/{each}", size) for each, size in objects.items()]
    found += [(f"{ROOT}{name(hours=hours)}/data-00.dump.zst", 1000) for hours in begun]
    return rules.stored(found, ROOT)


def manifest(**changed: Any) -> manifests.Manifest:
    backup = name(hours=1)
    objects = tuple(
        manifests.Object(f"{ROOT}{backup}/{each}", kind, 0, 0, 10, "a" * 64, "v1")  # type: ignore[arg-type]  # literals below
        for each, kind in (("schema.dump.zst", "schema"), ("data-00.dump.zst", "data"))
    )
    made = manifests.Manifest(
        schema_version=1, backup_id=backup, kind="logical", started_at="", finished_at="", duration_s=1.0,
        source=manifests.Source("7", "mental_scribe", "18", 180000, "UTF8", "C", "C", "c", None, "o", "", None, 1),
        tools=manifests.Tools("18", "0", "zstd:3", "none"), roles=(), extensions=(), objects=objects, tables=(),
        large_objects=manifests.LargeObjects(0, None), hash=manifests.HashInfo("m", "all", "p"), dump_bytes=1,
    )  # fmt: skip
    return dataclasses.replace(made, **changed)


def good(made: manifests.Manifest) -> dict[str, tuple[int, str, str]]:
    return {each.key: (each.size_bytes, each.sha256, "") for each in made.objects}


# All together ---------------------------------------------------------------------------------------------------------


# The listing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "status"), [((1,), "ok"), ((26,), "ok"), ((26.001,), "breach"), ((-1,), "unknown"), ((), "breach")]
)
def test_age(hours, status):
    assert rules.judge_age(listing(*hours), NOW, 93_600).status == status


def test_an_unfinished_backup_does_not_make_it_young():
    assert rules.judge_age(listing(30, begun=(1,)), NOW, 93_600).status == "breach"


@pytest.mark.parametrize(
    ("complete", "begun", "status"),
    [((1,), (), "ok"), ((25,), (1,), "breach"), ((), (1,), "breach"), ((1,), (25,), "ok")],
)
def test_complete(complete, begun, status):
    """What an older run left behind is the next backup's to clean up, and harms nobody."""
    assert rules.judge_complete(listing(*complete, begun=begun), 0).status == status


@pytest.mark.parametrize(("begun", "running"), [((1,), True), ((27,), False), ((), False)])
def test_is_running(begun, running):
    assert rules.is_running(listing(30, begun=begun), NOW, 93_600) is running


def test_an_upload_that_is_not_finished_is_a_backup_that_was_begun():
    found = rules.stored([], ROOT, begun=[f"{ROOT}{name(hours=1)}/data-00.dump.zst"])
    assert found.incomplete == [name(hours=1)]
    assert rules.is_running(found, NOW, 93_600)


@pytest.mark.parametrize(("wanted", "status"), [(2, "ok"), (3, "breach")])
def test_count(wanted, status):
    assert rules.judge_count(listing(1, 25, begun=(49,)), wanted).status == status


@pytest.mark.parametrize(
    ("hours", "since", "status"),
    [
        ((1, 720), None, "ok"),
        ((1, 719), None, "breach"),
        ((1,), None, "breach"),
        ((1,), "2026-11-23", "ok"),
        ((1,), "2026-11-22", "breach"),
        ((1, 49), "2026-11-21", "ok"),
        ((1, 25), "2026-11-20", "breach"),
        ((1, 25), "2020-01-01", "breach"),
        ((), "2026-11-23", "breach"),
    ],
)
def test_retention(hours, since, status):
    assert rules.judge_retention(listing(*hours), NOW, 30, rules.parse_since(since or "")).status == status


def test_since_is_a_day():
    with pytest.raises(RunbookError, match="since: 'monday' is no day"):
        rules.parse_since("monday")


def test_strangers_are_left_out():
    found = rules.stored([(f"{ROOT}notes/manifest.json", 1), (f"{ROOT}readme", 1)], ROOT)
    assert found.backups == {}


# One backup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"backup_id": name(hours=2)}, "is that of"),
        ({"source": dataclasses.replace(manifest().source, database="other")}, "is of database 'other'"),
        ({"source": dataclasses.replace(manifest().source, system_identifier="8")}, "is of cluster 8, not of 7"),
        ({"objects": (dataclasses.replace(manifest().objects[0], key=f"{ROOT}x/y"),)}, "names objects of another"),
    ],
)
def test_manifest(changed, says):
    made = manifest(**changed)
    check = rules.judge_manifest(made, backup_id=name(hours=1), root=ROOT, database="mental_scribe", clusters=["7"])
    assert check.status == ("breach" if says else "ok")
    assert says in check.msg


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ((10, "v1"), ""),
        ((10, None), ""),
        (None, "is missing"),
        ((9, "v1"), "has 9 bytes instead of 10"),
        ((10, "v2"), "was overwritten later"),
    ],
)
def test_objects(found, says):
    made = manifest()
    present: dict[str, Any] = {each.key: (10, "v1") for each in made.objects} | {made.objects[1].key: found}
    check = rules.judge_objects(made, present)
    assert check.status == ("breach" if says else "ok")
    assert says in check.msg


@pytest.mark.parametrize(
    ("read", "whole", "status"),
    [
        (None, True, "ok"),
        (None, None, "ok"),
        (None, False, "breach"),
        ((10, "b" * 64, ""), True, "breach"),
        ((9, "a" * 64, ""), True, "breach"),
        ((3, "", "the connection broke."), True, "unknown"),
        ((3, "", "the connection broke."), False, "unknown"),
    ],
)
def test_content(read, whole, status):
    made = manifest()
    found = good(made) | ({made.objects[1].key: read} if read else {})
    assert rules.judge_content(made, found, {made.objects[1].key: whole}).status == status


def test_what_was_not_read_is_unknown():
    assert rules.judge_content(manifest(), {}, {}).status == "unknown"


# Second region and proof ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "there", "status"),
    [
        ((2, 26), (2, 26), "ok"),
        ((2, 26), (26,), "breach"),
        ((0.5, 26), (26,), "ok"),
        ((0.5,), (), "unknown"),
        ((), (), "unknown"),
        ((2,), (2, 26), "ok"),
    ],
)
def test_replica(here, there, status):
    assert rules.judge_replica(listing(*here), listing(*there), NOW, 3600, []).status == status


def test_replica_with_another_size_or_manifest():
    there = rules.stored([(f"{ROOT}{name(hours=2)}/manifest.json", 100)], ROOT)
    check = rules.judge_replica(listing(2), there, NOW, 3600, [])
    assert "lacks 1 of 2 objects, such as data-00.dump.zst" in check.msg
    assert rules.judge_replica(listing(2), listing(2), NOW, 3600, [name(hours=2)]).status == "breach"


def test_a_proof_may_be_on_its_way_for_itself():
    here = listing(2, proof__2026_json=5)
    assert here.proofs(name(hours=2)) == ["proof-2026.json"]
    assert rules.judge_replica(here, listing(2), NOW, 3600, []).status == "ok"


def document(**changed: Any) -> proofs.Document:
    made = proofs.Document(
        schema_version=1, backup_id=name(hours=1), database="mental_scribe", proven_at="2026-11-23T03:30:00Z",
        status=Status.OK, msg="All well.", run_id="r", server_version_num=180000, duration_s=1.0, manifest_sha256="",
        compared=1, ok=1,
    )  # fmt: skip
    return dataclasses.replace(made, **changed)


@pytest.mark.parametrize(
    ("proof", "status"),
    [
        (document(), "ok"),
        (None, "breach"),
        (document(status=Status.BREACH), "breach"),
        (document(status=Status.UNKNOWN), "unknown"),
        (document(proven_at="2026-11-15T04:00:00Z"), "ok"),
        (document(proven_at="2026-11-15T03:59:59Z"), "breach"),
        (document(proven_at="then"), "unknown"),
    ],
)
def test_proof(proof, status):
    assert rules.judge_proof(proof, NOW, 8 * 86_400).status == status
