"""What each service that gives keys has to be able to do, so that two keys can be valid at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ansible.module_utils.runbook.rules.keys.definition import Key
    from ansible.module_utils.runbook.rules.keys.rotation import Rotation, Use
    from ansible.module_utils.runbook.rules.run import Run


@dataclass(frozen=True)
class Known:
    """A key as its service knows it, without its value."""

    #: Empty where there is none.
    id: str
    #: None where the service does not say.
    created_at: datetime | None = None


@dataclass(frozen=True)
class Made:
    """A key with its value, which exists in this process only."""

    id: str
    #: By ``definition.PARTS``.
    parts: Mapping[str, str] = field(repr=False)


class Provider(Protocol):
    """A service that gives keys."""

    def require(self, run: Run, environment: str) -> None:
        """Refuse unless this run may write there.

        :raises RunbookError: it may not
        """

    def current(self, key: Key) -> Known:
        """The key that is in use, where nothing is known of an earlier rotation.

        :raises RunbookError: the service has several, and the inventory does not say which one it is
        """

    def created_at(self, key: Key, key_id: str) -> datetime | None:
        """When a key was made; None where it is gone, or nobody knows."""

    def make(self, key: Key, rotation: Rotation) -> Made:
        """The new key of a rotation, found or made. One that was made, and whose value is lost, is replaced.

        :raises RunbookError: refused, or whether it was made is unknown; the next run looks for it first
        """

    def reveal(self, key: Key, key_id: str) -> Made | None:
        """A key's value; None where the service gives it to nobody any more."""

    def use(self, key: Key, rotation: Rotation, now: datetime) -> Use:
        """What is known of the use of the old key of a rotation."""

    def retire(self, key: Key, rotation: Rotation) -> None:
        """End the old key of a rotation; one that has ended is no error."""

    def discard(self, key: Key, rotation: Rotation) -> None:
        """Remove the new key of a rotation that was gone back from; one that is gone is no error."""
