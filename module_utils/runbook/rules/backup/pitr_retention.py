"""How many base backups a retention may delete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def expired(printed: str, known: Iterable[str]) -> list[str]:
    """Of the base backups that are ``known``, those which the engine's dry run would delete."""
    return sorted(set(known) & set(re.findall(r"\d{8}T\d{6}", printed)))


def check_removal(gone: Collection[str], known: Collection[str], *, max_delete: int, max_delete_percent: int) -> None:
    """Refuse a retention that would take more than is expected: a wrong window, or a clock that is wrong.

    :param gone: base backups that would be deleted, of those that are ``known``
    :raises RunbookError: they are too many, by their number or by their share; nothing was deleted
    """
    look = "see recovery_window_days, and if it is meant raise it for this run: -e pitr_{0}=<number>."
    if len(gone) > max_delete:
        raise RunbookError(
            f"max_delete: {count(len(gone), 'base backup')} would be deleted, and at most {max_delete} may be in one "
            "run; " + look.format("max_delete")
        )
    if len(gone) * 100 > len(known) * max_delete_percent:
        raise RunbookError(
            f"max_delete_percent: {len(gone)} of {count(len(known), 'base backup')} would be deleted, and at most "
            f"{max_delete_percent} % may be in one run; " + look.format("max_delete_percent")
        )
