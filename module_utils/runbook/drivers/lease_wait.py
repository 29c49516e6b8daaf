"""What the lease of a database and that of the state store share: a proof's options, and the wait for another run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.lease import HELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Taken = TypeVar("Taken")

#: For ``Context.require_bounds``.
BOUNDS = {"lease_wait_s": (0, 86_400)}
#: Seconds between two looks at a lease that another run holds.
_POLL_S = 2.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every proof; documented in ``doc_fragments/runbook_lease.py``."""
    return {"take_lease": {"type": "bool", "default": True}, "lease_wait_s": {"type": "int", "default": 0}}


def wait_for(
    take: Callable[[], Taken], params: Mapping[str, Any], tell: Callable[[str, float, float | None, str], None]
) -> Taken:
    """What ``take`` returns, tried again for as long as another run holds the lease and ``lease_wait_s`` allows.

    :param tell: ``Progress.update``
    :raises RunbookError: as ``take`` raised it last
    """
    longest_s = params["lease_wait_s"]
    begun = time.monotonic()
    while True:
        try:
            return take()
        except RunbookError as error:
            waited_s = time.monotonic() - begun
            if error.code != HELD or waited_s >= longest_s:
                raise
            tell("wait for the lease", round(waited_s), longest_s, "s")
            time.sleep(min(_POLL_S, longest_s - waited_s))
