"""The environment variables of a project as a whole, with the values that Vercel gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.deploy.deployments import NOT_OURS, SENSITIVE
from ansible.module_utils.runbook.rules.deploy.env import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
    from ansible.module_utils.runbook.rules.deploy.env import Plan


def read(api: Vercel, tell: Callable[[int, int], None]) -> list[Kept]:
    """The set as it is; what is not ours, or sensitive, is without its value.

    :param tell: is told how many of how many were read
    """
    variables = api.env()
    found = []
    for number, each in enumerate(variables, 1):
        is_open = each.type not in {SENSITIVE, *NOT_OURS}
        found.append(Kept.of(each, api.value(each.id) if is_open else None))
        tell(number, len(variables))
    return found


def write(api: Vercel, plan: Plan) -> None:
    """Carry a plan out. It can be stopped anywhere: what is done then is found done.

    What is removed goes before what is made, which may be of the same name.
    """
    for variable_id, setting in plan.edited.items():
        api.edit_env(variable_id, setting)
    for each in plan.deleted:
        api.delete_env(each.id)
    if plan.created:
        api.set_env(plan.created)
