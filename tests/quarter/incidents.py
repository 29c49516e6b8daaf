"""What goes wrong in the quarter from Monday, 4 January 2027, on: when, what is done, what has to be seen of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import s3_faults
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.change.review import Review
from conftest import this_run
from quarter import clock
from quarter.play import Incident, Standing

if TYPE_CHECKING:
    from quarter.sandbox import Sandbox

BEGIN = datetime(2027, 1, 4, tzinfo=UTC)
WEEKS = 13

_EMERGENCY = "20270316T101500Z-emergency-0000aa"


def _at(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2027, month, day, hour, minute, tzinfo=UTC)


def _close_bucket(sandbox: Sandbox) -> None:
    sandbox.proxy.add(s3_faults.close(times=0))


def _publish_advisory(sandbox: Sandbox) -> None:
    # High ones have two weeks, from their publication on.
    published = f"{clock.now() - timedelta(days=20):%Y-%m-%dT%H:%M:%SZ}"
    sandbox.osv.advisory("GHSA-aaaa-0001", "lodash", "4.17.20", published=published, severity="HIGH", fixed="4.17.21")


def _limit(sandbox: Sandbox, room: float | None) -> None:
    """Let the database have room for so much more than it holds; None for as much as it wants."""
    size = {"name": "database_size", "source": "database_size"}
    if room is not None:
        held = sandbox.database.one("SELECT pg_database_size(current_database())")
        size |= {"limit": round(held * (1 + room))}
    sandbox.project.all_vars["capacity_quantities"] = [size, {"name": "connections", "source": "connections"}]


def _hide_backup(sandbox: Sandbox) -> None:
    """Delete the objects of the newest backup, as somebody does who has the keys."""
    client = sandbox.s3.client()
    manifests = [key for key in _keys(sandbox) if key.endswith("manifest.json")]
    newest = max(manifests).rpartition("/")[0]
    for key in _keys(sandbox):
        if key.startswith(f"{newest}/"):
            client.delete_object(Bucket=sandbox.bucket, Key=key)


def _keys(sandbox: Sandbox) -> list[str]:
    pages = sandbox.s3.client().get_paginator("list_objects_v2").paginate(Bucket=sandbox.bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", ())]


def _freeze(sandbox: Sandbox) -> None:
    sandbox.calendar["freezes"].append(
        {"id": "audit", "begin": "2027-03-13 00:00", "end": "2027-03-15 00:00", "scope": "all",
         "reason": "an audit", "owner": "Jo Doe"}
    )  # fmt: skip


def _plan_drill(sandbox: Sandbox, day: str, announced_at: str) -> None:
    sandbox.calendar["windows"][2:] = [
        {"id": "drill", "kind": "quarterly", "begin": f"{day} 14:00", "end": f"{day} 18:00",
         "announced_at": announced_at}
    ]  # fmt: skip


def _open_review(sandbox: Sandbox) -> None:
    then = clock.now() - timedelta(days=6)
    change = Change(_EMERGENCY, "emergency.yml", "A migration ran twice", (), "m", then, then)
    review = Review.of_change(change, kind="instability", owner="devops_sre", due_days=5, opened_at=then)
    documents = Documents(Folder(sandbox.folder / "state", "sandbox"), this_run(), "sandbox")
    documents.update(Review.document_name(_EMERGENCY), lambda _: review.body())


def _close_review(sandbox: Sandbox) -> None:
    action = {"text": "Let migrations take a lock", "owner": "Bo Katan", "due_date": "2027-05-31"}
    closing = {"change_id": _EMERGENCY, "by": "Ada Byron", "text": "A migration ran twice, and nothing locked it.",
               "actions": [action]}  # fmt: skip
    sandbox.by_hand("reviews.yml", incident_review_close=closing)


def _change_contact(sandbox: Sandbox) -> None:
    contacts: dict[str, Any] = sandbox.project.all_vars["emergency_contacts"]
    contacts["database_admin"]["slack_url"] = f"{sandbox.chat.url}/services/T0NEW/B0NEW/new"


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "the bucket of the backups is unreachable for a night",
        _at(1, 12, 2, 50), _at(1, 12, 4, 30),
        red=("daily-backup", "backup-verification"),
        says=r"^(daily-backup: failed: Let the bucket of the backups prove itself|backup-verification: failed: Read "
        r"the newest backup back, and check what was promised): .* of s3://\S+ failed: the connection broke",
        inject=_close_bucket, mend=lambda sandbox: sandbox.proxy.clear(),
    ),
    Incident(
        "a package of the application is vulnerable",
        _at(1, 20), _at(1, 22, 12),
        red=("security-advisories",),
        says=r"^security-advisories: failed: .* lodash 4\.17\.20: GHSA-aaaa-0001 \(breach\): High: .*; overdue since "
        r"2027-01-14; update to 4\.17\.21\.",
        inject=_publish_advisory, mend=lambda sandbox: sandbox.osv.records.clear(),
    ),
    Incident(
        "the forecast of the database's size meets its limit",
        _at(3, 9), _at(3, 11, 12), history=timedelta(days=35),
        red=("capacity",),
        says=r"^capacity: failed: .*database_size is at [\d.]+ MiB, and meets its limit of [\d.]+ MiB \(inventory\) on "
        r"2027-0[34]-\d\d \(p50\)",
        inject=lambda sandbox: _limit(sandbox, 0.02), mend=lambda sandbox: _limit(sandbox, None),
    ),
    Incident(
        "somebody stopped a timer",
        _at(2, 2), _at(2, 4), stops="deployments",
        says=r"^deployments: missed: No run came when it was due, \w+ 2027-02-0[23] 05:30 UTC; the last one began Mon "
        r"2027-02-01 05:30 UTC\.",
    ),
    Incident(
        "the monthly run is killed, and a person runs it again",
        _at(2, 7, 1, 30), _at(2, 7, 3), kills=("monthly-optimization", "pg_vacuum"),
        # By the clock at which it was killed, whose jump comes behind it.
        says=r"^monthly-optimization: did not end: .* of 2027-02-07 02:0\d:\d\d UTC\. Vacuum and analyze: No result",
        mend=lambda sandbox: sandbox.by_hand("monthly_db.yml"),
    ),
    Incident(
        "a key is past its age, until the rotation of Sunday",
        _at(2, 11, 5), _at(2, 14, 3),
        red=("key-ages",),
        says=r"^key-ages: failed: .*age \(breach\): server: it is 9[1-3] days old, and 90 is the most; rotate it: "
        r"rotate_keys\.yml -e key_rotation_action=create\.",
        inject=lambda sandbox: sandbox.age_key(91),
    ),
    Incident(
        "the bastion is down for most of a day",
        _at(2, 17), _at(2, 17, 20), is_down=True,
    ),
    Incident(
        "a certificate is not renewed",
        _at(2, 24), _at(2, 26, 12),
        red=("certificates",),
        says=r"^certificates: failed: .* app: lifetime \(breach\): Critical: it ends on 2027-03-06 00:00 UTC, [\d.]+ "
        r"days or \d+% of its lifetime are left; renew it now\.",
        inject=lambda sandbox: sandbox.serve_certificate(-80, 10),
        mend=lambda sandbox: sandbox.serve_certificate(-1, 398),
    ),
    Incident(
        "somebody deletes the newest backup",
        _at(3, 4, 3, 30), _at(3, 4, 12),
        red=("backup-verification",),
        says=r"^backup-verification: failed: .*hidden \(breach\): 1 backup of mental_scribe is hidden by delete "
        r"markers \(2027-03-04T03-00-\d\dZ\), and no retention decided that: somebody deleted from the bucket\.",
        inject=_hide_backup, mend=lambda sandbox: sandbox.by_hand("backup_undelete.yml"),
    ),
    Incident(
        "a freeze lies over the window of Sunday",
        # Behind a Sunday on which each of them ran: the first one of March is that of the monthly work.
        _at(3, 13), _at(3, 14, 23), history=timedelta(days=14),
        red=("weekly-maintenance", "key-rotation", "key-retirement"), is_skipped=True, inject=_freeze,
        says=r"^The freeze audit \(an audit; owner: Jo Doe\) kept it from running when it was due, Sun 2027-03-14 "
        r"0[23]:[03]0 UTC; .* It is due next Sun 2027-03-21 0[23]:[03]0 UTC\.$",
    ),
    Incident(
        "a drill is announced too late, and moved",
        _at(3, 16, 7), _at(3, 18, 12),
        red=("announcements",),
        says=r"^announcements: failed: .*announcement \(breach\): The window drill on Fri 2027-03-26 14:00 UTC was "
        r"announced only 10 days before, and 14 are promised; move it to a later date\.",
        inject=lambda sandbox: _plan_drill(sandbox, "2027-03-26", "2027-03-12"),
        mend=lambda sandbox: _plan_drill(sandbox, "2027-04-23", "2027-03-18"),
    ),
    Incident(
        "nobody held the review of an emergency in time",
        _at(3, 22), _at(3, 24, 12),
        red=("incident-reviews",),
        says=rf"^incident-reviews: failed: .*Review {_EMERGENCY} \(instability: A migration ran twice; DevOps/SRE\): "
        r"overdue since 2027-03-21; hold it, then close it",
        inject=_open_review, mend=_close_review,
    ),
    Incident(
        "an emergency contact has another address than was proven",
        _at(3, 30), _at(4, 1, 12),
        red=("emergency-contacts",),
        says=r"^emergency-contacts: failed: .*Ada, database_admin \(Database Admin\) by slack: the channel is another "
        r"one than was proven; send a test message",
        inject=_change_contact, mend=lambda sandbox: sandbox.prove_contacts(),
    ),
)  # fmt: skip

#: What the board says though nothing was injected, and rightly.
STANDING = (
    Standing("^Recovery drill: unknown", "no drill is played: it kills a server of its own, in real time"),
    Standing("^Findings in databases: unknown", "performance-review is not played"),
    Standing("^Capacity: unknown: .*history is too short", "a forecast needs a month", timedelta(days=32)),
)
