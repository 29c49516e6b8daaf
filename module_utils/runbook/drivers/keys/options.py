"""How the modules of keys are told what they work on; documented in ``doc_fragments/runbook_keys.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import vercel
from ansible.module_utils.runbook.drivers.keys import access_keys
from ansible.module_utils.runbook.drivers.keys.access_keys import AccessKeys, Account
from ansible.module_utils.runbook.drivers.keys.role_keys import RoleKeys
from ansible.module_utils.runbook.drivers.keys.rotations import Application, Store
from ansible.module_utils.runbook.drivers.keys.supabase_keys import SupabaseKeys
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.supabase import supabase
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.keys.definition import LEGACY, MAX_AGE_DAYS, PARTS, ROLE, S3, SUPABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.change.documents import Documents
    from ansible.module_utils.runbook.drivers.keys.provider import Provider
    from ansible.module_utils.runbook.rules.keys.definition import Key

_KEYS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": [*PARTS, LEGACY]},
    "env": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "part": {"type": "str"},
            "targets": {"type": "list", "elements": "str"},
        },
    },
    "max_age_days": {"type": "int", "default": MAX_AGE_DAYS},
    "in_use": {"type": "str"},
    "user": {"type": "str"},
    "roles": {"type": "list", "elements": "str"},
    "url": {"type": "str"},
    "user_suffix": {"type": "str"},
}
#: Which option says how the keys of a kind are reached.
_OPTION = dict.fromkeys(SUPABASE, "supabase") | {S3: "aws", ROLE: "database"}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that the modules of keys share."""
    return state_store.argument_spec() | {
        "keys": {"type": "list", "elements": "dict", "required": True, "no_log": False, "options": _KEYS},
        "vercel": {"type": "dict", "required": True, "options": vercel.argument_spec()},
        "supabase": {"type": "dict", "options": supabase.argument_spec()},
        "aws": {"type": "dict", "options": access_keys.argument_spec()},
        "database": {"type": "dict", "options": postgres.argument_spec()},
    }


def providers(
    params: Mapping[str, Any], keys: Iterable[Key], hide: Callable[[str], None], *, read_only: bool
) -> dict[str, Provider]:
    """Who gives the keys, by their kind.

    :param hide: keeps a value out of everything that is printed
    :raises RunbookError: the options do not say how one is reached, or not rightly
    """
    found: dict[str, Provider] = {}
    for key in keys:
        option = _OPTION[key.kind]
        if not params[option]:
            raise RunbookError(
                f"{option}: it is not set, and {key.name} is a key of kind {key.kind}; say how it is made."
            )
        if key.kind in found:
            continue
        if option == "supabase":
            api = supabase.Supabase.from_params(params[option], read_only=read_only)
            found |= dict.fromkeys(SUPABASE, SupabaseKeys(api, hide))
        elif option == "aws":
            found[S3] = AccessKeys(Account(params[option]), hide)
        else:
            found[ROLE] = RoleKeys(postgres.Target.from_params(params[option]), hide)
    return found


def application(
    params: Mapping[str, Any],
    documents: Documents,
    keys: Sequence[Key],
    hide: Callable[[str], None],
    tell: Callable[[str, float], None],
    *,
    read_only: bool,
    deadline_s: float = 60,
    poll_s: float = 5,
) -> tuple[Application, vercel.Vercel, dict[str, Provider]]:
    """The application that the keys are deployed to, its project, and who gives the keys.

    :raises RunbookError: the options do not say where one of them is, or a rotation cannot be read
    """
    project = vercel.Vercel.from_params(params["vercel"], read_only=read_only)
    services = providers(params, keys, hide, read_only=read_only)
    store = Store(documents, params["vercel"]["project_id"], keys)
    made = Application(project, store, services, Clock(deadline_s), tell, poll_s)
    return made, project, services
