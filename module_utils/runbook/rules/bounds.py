"""Whether the numbers of an inventory can be meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping


def require(options: Mapping[str, Any], bounds: Mapping[str, tuple[int, int]]) -> None:
    """Refuse the first option that is set and does not lie between its two bounds, which are allowed.

    :raises RunbookError: names the option, the value and the bounds
    """
    for option, (least, most) in bounds.items():
        value = options[option]
        if value is not None and not least <= value <= most:
            raise RunbookError(f"{option}: {value} is out of bounds; give a number from {least} to {most}.")
