"""Which options belong to which service behind a module of a change.

A module has the options of all services that it can use, and the inventory names one of them. An option of another
service would be ignored without a word, and a missing one would be missed only in the middle of the night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_address, require_encrypted
from ansible.module_utils.runbook.rules.observe.access import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The inventory decided to have no such service.
NONE = "none"
#: The proof of a line whose service the inventory decided not to have.
SKIPPED = "skipped by the inventory"
#: Addresses whose path or query says who may write there.
_SECRET = frozenset({"slack_url", "teams_url", "webhook_url"})


@dataclass(frozen=True)
class Needs:
    """The options of one service."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        """Whatever it has a use for."""
        return frozenset((*self.required, *self.optional))


def check_options(params: Mapping[str, Any], backends: Mapping[str, Needs]) -> None:
    """Refuse an option of another service, and what the chosen one cannot be reached with.

    That is the absence of one that it needs, what is no address or would carry a secret unencrypted, and two ways to
    say who asks.

    :param params: all options of the module, ``backend`` among them; what is not set is None or empty
    :param backends: each service, :data:`NONE` left out, which needs nothing
    :raises RunbookError: names the option and the fix
    """
    backend = params["backend"]
    chosen = backends.get(backend, Needs())
    for name in sorted(frozenset().union(*(needs.all for needs in backends.values())) - chosen.all):
        if params[name] not in (None, "", []):
            of = " or ".join(sorted(each for each, needs in backends.items() if name in needs.all))
            raise RunbookError(
                f"{name}: it is set, and backend {backend} has no use for it; take it out, or set backend to {of}."
            )
    for name in chosen.required:
        if params[name] in (None, "", []):
            raise RunbookError(f"{name}: it is not set, and backend {backend} needs it; set it in the inventory.")
    secrets = [name for name in sorted(chosen.all) if name.endswith(("_token", "_password")) and params[name]]
    for name in sorted(chosen.all):
        if name.endswith("_url") and params[name]:
            check_address(name, params[name], secret=name in _SECRET)
            require_encrypted(name, params[name], [*secrets, *([name] if name in _SECRET else ())])
    for service in sorted(name.removesuffix("_token") for name in chosen.all if name.endswith("_token")):
        if chosen.all.issuperset(Access.options(service)):
            Access.check(service, params)
