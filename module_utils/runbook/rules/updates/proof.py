"""What has to be known of an update before it goes to production: that it ran on staging, and who read its changelogs.

Both are documents of the state store, by the commit that they are about; another commit needs its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import some, to_second

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.rules.state import Document
    from ansible.module_utils.runbook.rules.updates.outdated import Change

#: By how much clocks may differ.
CLOCKS = timedelta(minutes=5)
#: How the next step is called, for a sentence.
STAGE = "playbooks/updates.yml --tags stage -e app_updates_branch={branch}"
REVIEW = (
    'playbooks/updates.yml --tags review -e app_updates_branch={branch} -e \'{{"app_updates_reviewed_by": "<name>"}}\''
)


@dataclass(frozen=True)
class Staged:
    """That a commit was deployed to staging and works there."""

    commit: str
    branch: str
    #: What stands in its lock file; the very same goes to production.
    lock_sha256: str
    #: The deployment at Vercel.
    deployment: str
    proven_at: datetime

    @staticmethod
    def document_name(commit: str) -> str:
        """Under which name it lies in the state store."""
        return check_name(f"updates/staged-{commit}")

    def body(self) -> dict[str, Any]:
        """As the state store keeps it."""
        return {
            "commit": self.commit,
            "branch": self.branch,
            "lock_sha256": self.lock_sha256,
            "deployment": self.deployment,
            "proven_at": self.proven_at.astimezone(UTC).isoformat(),
        }

    def only_confirms(self, known: Staged) -> bool:
        """Whether an older proof says the same, and is of the last day: then it stays as it is."""
        return replace(self, proven_at=known.proven_at) == known and self.proven_at - known.proven_at < timedelta(
            days=1
        )

    @classmethod
    def of(cls, document: Document) -> Staged:
        """As it was read.

        :raises RunbookError: something is missing (``unknown``)
        """
        body = document.body
        texts = {name: _text(document, body, name) for name in ("commit", "branch", "lock_sha256", "deployment")}
        return cls(**texts, proven_at=_moment(document, body, "proven_at"))


@dataclass(frozen=True)
class Reviewed:
    """That a person read the changelogs of the major versions in a commit."""

    commit: str
    by: str
    #: As ``next 14.2.3 -> 15.0.1``.
    read: tuple[str, ...]
    reviewed_at: datetime

    @staticmethod
    def document_name(commit: str) -> str:
        """Under which name it lies in the state store."""
        return check_name(f"updates/reviewed-{commit}")

    def body(self) -> dict[str, Any]:
        """As the state store keeps it."""
        return {
            "commit": self.commit,
            "by": self.by,
            "read": list(self.read),
            "reviewed_at": self.reviewed_at.astimezone(UTC).isoformat(),
        }

    @classmethod
    def of(cls, document: Document) -> Reviewed:
        """As it was read.

        :raises RunbookError: something is missing (``unknown``)
        """
        body = document.body
        read = body.get("read")
        if not isinstance(read, list):
            raise _damaged(document, "read")
        return cls(
            _text(document, body, "commit"), _text(document, body, "by"), tuple(map(str, read)),
            _moment(document, body, "reviewed_at"),
        )  # fmt: skip


def check_staged(found: Staged | None, *, commit: str, branch: str, now: datetime, max_age_days: int) -> str:
    """The commit was proven on staging, and not long ago; a sentence that says when.

    :param now: the state store's clock
    :raises RunbookError: it was not, or too long ago, or at a time that is yet to come
    """
    again = STAGE.format(branch=branch)
    if found is None:
        raise RunbookError(
            f"{branch} ({commit[:12]}) was not proven on staging, and nothing goes to production that was not; run "
            f"{again}",
            code="not_staged",
        )
    if found.proven_at - now > CLOCKS:
        raise RunbookError(
            f"{branch} ({commit[:12]}) is said to be proven on staging at {to_second(found.proven_at.isoformat())}, "
            f"which is in the future ({to_second(now.isoformat())} by the state store's clock); set the clock of the "
            f"machine that ran it right (chronyc tracking), and run {again}",
            status=Status.UNKNOWN,
            code="staged_in_the_future",
        )
    if now - found.proven_at > timedelta(days=max_age_days):
        raise RunbookError(
            f"{branch} ({commit[:12]}) was proven on staging at {to_second(found.proven_at.isoformat())}, which is "
            f"more than {max_age_days} days ago (staged_max_age_days); run {again}",
            code="staged_long_ago",
        )
    return f"proven on staging at {to_second(found.proven_at.isoformat())} ({found.deployment})"


def check_reviewed(found: Reviewed | None, majors: Sequence[Change], *, commit: str, branch: str) -> str:
    """Somebody read the changelogs of all major versions; empty where there is none, else who.

    :raises RunbookError: nobody did
    """
    if not majors:
        return ""
    missing = [str(each) for each in majors if found is None or str(each) not in found.read]
    if found is None or missing:
        raise RunbookError(
            f"{branch} ({commit[:12]}) brings a major version, and nobody said that the changelog was read: "
            f"{some(missing)}. Read it, then run {REVIEW.format(branch=branch)}",
            code="not_reviewed",
        )
    return f"reviewed by {found.by} at {to_second(found.reviewed_at.isoformat())}"


def majors_of(changes: Sequence[Change]) -> list[Change]:
    """The major versions that the project itself asks for: those have a changelog that somebody can weigh.

    An address or another package in the place of a version may bring anything, so it counts too.
    """
    return [
        each
        for each in changes
        if each.is_direct and (each.step == "major" or (each.from_version and each.to_version and not each.step))
    ]


def _text(document: Document, body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _damaged(document, name)
    return value


def _moment(document: Document, body: Mapping[str, Any], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(_text(document, body, name))
    except ValueError:
        raise _damaged(document, name) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _damaged(document: Document, name: str) -> RunbookError:
    return RunbookError(
        f"State store: {document.name} has no {name} that can be read; restore or remove it. Until then what it says "
        "is unknown.",
        status=Status.UNKNOWN,
    )
