"""What a drill does: its scenarios, the ways to restore, and what it refuses before it begins.

In the sandbox the outage is real: a primary of the drill's own is killed while clients write to it. Elsewhere nothing
is killed; the backups of that environment are restored to a target that is proven to be another cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import span
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Way = Literal["dump", "pitr"]
WAYS: tuple[Way, ...] = ("dump", "pitr")
#: Where an outage may be made, and a fault injected.
SANDBOX = "sandbox"


@dataclass(frozen=True)
class Scenario:
    """One disaster of the catalogue."""

    title: str
    #: The server and its data are gone; else it runs on, and what it holds is wrong.
    kills: bool = True
    #: Backups that are made before it, in the sandbox.
    backups: int = 1
    #: Restore from the bucket in the second region.
    replica: bool = False
    #: The newest backup is made unusable, in the sandbox; to pass it over is what the drill is about.
    newest_bad: bool = False


SCENARIOS: dict[str, Scenario] = {
    "database_lost": Scenario("the server and its data are gone"),
    "table_dropped": Scenario("a table was dropped by mistake", kills=False),
    "corruption_noticed_late": Scenario("rows were overwritten, and it was noticed later", kills=False),
    "region_lost": Scenario("the region is gone, server and bucket", replica=True),
    "newest_backup_bad": Scenario("the server is gone, and the newest backup is bad", backups=2, newest_bad=True),
}


def nothing_to_do() -> dict[str, Any]:
    """The result in check mode of each act but the first."""
    return {"changed": False, "msg": "Check mode begins no drill, so there is nothing to do."}


def check_announcement(announcement: Mapping[str, Any], *, min_days: int, now: datetime) -> str:
    """See that the people concerned were told in time.

    :param announcement: ``announced_at``, a date or time in ISO 8601, and ``announced_by``
    :param min_days: how many days before the drill they have to be told; 0 asks for nothing
    :raises RunbookError: nobody was told, or too late
    """
    if min_days == 0:
        return "No announcement is asked for."
    how = "write {announced_at: 2026-01-31, announced_by: name} when you have told everybody"
    who, stamp = str(announcement.get("announced_by") or ""), str(announcement.get("announced_at") or "")
    if not who or not stamp:
        raise RunbookError(
            f"announcement: the drill was not announced; it has to be {count(min_days, 'day')} before: {how}."
        )
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        raise RunbookError(f"announcement: announced_at {stamp!r} is no date; {how}.") from None
    at = at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
    if at > now:
        raise RunbookError(f"announcement: announced_at {stamp} is still to come; {how}.")
    if now - at < timedelta(days=min_days):
        raise RunbookError(
            f"announcement: it was announced by {who} {span((now - at).total_seconds())} ago, and "
            f"{count(min_days, 'day is', 'days are')} "
            f"asked for; drill on {at + timedelta(days=min_days):%Y-%m-%d} or later."
        )
    return f"Announced by {who} on {at:%Y-%m-%d}."


def check_target(
    *, found: str, pinned: str, production: Collection[str], database: str, databases: Collection[str]
) -> str:
    """See that the target of a drill is not what the drill is about.

    :param found: the target's system identifier, as it answered
    :param pinned: the one that the inventory means; empty if it does not say
    :param production: system identifiers of what must not be touched
    :param database: name of the database to be restored there
    :param databases: names of those that are there
    :raises RunbookError: it is production, not the server that is meant, or not empty
    """
    if found in {each for each in production if each}:
        raise RunbookError(
            f"target_login_host: cluster {found} answered, which is the one that the drill is about; name another "
            "server, because a drill never restores onto production."
        )
    if not any(production):
        raise RunbookError(
            "system_identifier: the inventory does not say which cluster the live one is, so the target cannot be "
            "told from it; pin it in preflight_system_identifier."
        )
    if not pinned or pinned != found:
        raise RunbookError(
            f"target_system_identifier: {pinned or 'nothing'} is pinned, and cluster {found} answered; pin that one if "
            "it is the target that is meant."
        )
    if database in databases:
        raise RunbookError(
            f"target_database: {database!r} is there already on the target, and a drill restores into an empty place; "
            "drop it, or name another one."
        )
    return f"The target is cluster {found}, another one than the live."
