"""Hands the module runbook_doctor what only Ansible can see of an inventory, one variable at a time.

A template that cannot be filled in, or a secret that no password opens, ends a task before its module begins. Here each
variable is read by itself, so that such a one is a line of the doctor's table and hides no other.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.vault import EncryptedString, VaultLib, VaultSecret
from ansible.plugins.action.normal import ActionModule as NormalAction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SPEC = importlib.util.spec_from_file_location(
    "runbook_forked_module", Path(__file__).resolve().with_name("forked_module.py")
)
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("forked_module.py is not beside this file.")
forked: Any = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = forked
_SPEC.loader.exec_module(forked)

# Found under this name once forked_module.py has put the project's module_utils in its place.
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import bounds, doctor, preflight, record, text, variables
from ansible.module_utils.runbook.rules.change import contacts, readiness
from ansible.module_utils.runbook.rules.status import Status

#: The password that inventories/README.md publishes.
PUBLISHED = "example-only"
#: The group of the inventory that a part of the settings is of; of other hosts nothing is run as a change.
_GROUPS = {"database": "databases", "server": "servers", "vercel": "applications"}
#: Longest reason that is told; Ansible's own may be pages.
_REASON = 160
#: Endings of files that Ansible reads variables from.
_READ = {".yml", ".yaml", ".json", ""}


class ActionModule(forked.ActionModule):  # type: ignore[misc] # loaded by its path
    """Reads the variables that the task names, and looks at all others of the project."""

    name = "runbook_doctor"
    module = forked.load(name)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fill in what the task names, then run the module."""
        given = task_vars or {}
        raw = self._defaults() | given
        names = sorted(name for name in raw if name in forked.KNOWN.names or name.startswith(variables.FREE))
        self._values, failed = self._read(raw, names)
        self._values["inventory_hostname"] = given.get("inventory_hostname")
        unread = {name: _reason(error) for name, error in failed.items()}
        encrypted = {name: value for name, value in given.items() if isinstance(value, EncryptedString)}
        arguments = self._task.args
        named = arguments.get("settings") or {}
        self._pasted: list[str] = []
        arguments["settings"] = self._filled(named)
        jobs, groups = self._values.get("schedule_jobs") or {}, [str(each) for each in given.get("group_names") or ()]
        used = []
        for each in arguments.get("roles") or ():
            if "operation" not in each or doctor.is_run(
                jobs, groups, each["operation"], otherwise=bool(self._values.get(each["unscheduled"]))
            ):
                used.append(each)
            else:
                # What nothing uses on this host need not be there.
                for part in each["parts"]:
                    arguments["settings"].pop(part, None)
        arguments["found"] = {
            "inventory_sources": [str(source) for source in given.get("ansible_inventory_sources") or ()],
            "playbooks": sorted(path.name for path in (forked.PROJECT / "playbooks").glob("*.yml")),
            "names": {part: list(_first(leaves)) for part, leaves in named.items() if isinstance(leaves, dict)},
            "refused": list(
                dict.fromkeys([*self._pasted, *(said for each in used for said in self._refused(each, failed))])
            ),
            "unknown": forked.misspelt(given),
            # A default of a role that the inventory does not use may well refer to nothing; and what a locked secret
            # leads to is told once, with the secret.
            # As texts, for what a key like a password's leads to is kept out of sight.
            "unread": [
                f"{name} ({why})" for name, why in unread.items() if name in given and "decrypt" not in why.lower()
            ],
            "examples": [
                name
                for name, value in self._values.items()
                if name in given and not name.endswith(readiness.QUERIES) and preflight.is_example(value)
            ],
            "strays": sorted(_strays(given)),
            "servers": list(_servers(given)),
            "encrypted": len(encrypted),
            "locked": sorted(encrypted.keys() & unread.keys()),
            "published": sorted(name for name, value in encrypted.items() if _is_published(value)),
            "plain": sorted(_plain(given)),
            # Only what is wrong with them: what they hold is secret.
            "change": readiness.foretell(
                doctor.wanted(self._values.get("schedule_jobs") or {}),
                str(self._values.get("runbook_environment")),
                self._values,
                group=next((group for part, group in _GROUPS.items() if part in named), ""),
            ),
            "contacts": [
                check.msg
                for check in contacts.judge_filled(
                    self._values.get("emergency_contacts") or {}, str(self._values.get("runbook_environment"))
                )
                if check.status != Status.OK
            ],
        }
        # Not the parent's: it would refuse an unknown variable before anything else was looked at.
        return dict(NormalAction.run(self, tmp, given))

    def _filled(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with values instead of names; what is not set, or cannot be read, is left out.

        So is what no module takes, as it may be a secret that is printed: the module would say that and nothing else.
        """
        filled: dict[str, Any] = {}
        for key, leaf in named.items():
            if isinstance(leaf, dict):
                filled[key] = self._filled(leaf)
                continue
            names = [leaf] if isinstance(leaf, str) else leaf
            name = next((name for name in names if self._values.get(name) is not None), None)
            if name is None:
                continue
            value = self._values[name]
            refused = text.refusal({key: value}, secret=[key] if record.secret_values({key: value}) else [])
            if refused is None:
                filled[key] = value
            else:
                self._pasted.append(name + refused[1].removeprefix(key).rstrip("."))
        return filled

    def _refused(self, role: Mapping[str, Any], failed: Mapping[str, Exception]) -> Iterator[str]:
        """What a role, and modules of its tasks, would refuse of the values, by their own specs and bounds.

        :param failed: variables that cannot be read, which other lines name
        """
        folder = forked.PROJECT / "roles" / role["role"]
        specs = self._loader.load_from_file(str(folder / "meta/argument_specs.yml"))["argument_specs"]
        for entry in role["entries"]:
            spec = {name: each for name, each in specs[entry]["options"].items() if name not in failed}
            result = ArgumentSpecValidator(spec).validate({n: v for n, v in self._values.items() if n in spec})
            yield from (said.rstrip(".") for said in result.error_messages)
            for task in _tasks(self._loader, folder / "tasks" / f"{entry}.yml"):
                yield from self._refused_by(task)

    def _refused_by(self, task: Mapping[str, Any]) -> Iterator[str]:
        """What the module of a task would refuse of the variables that are its options."""
        module = next((found for name in task if (found := forked.load(name)) is not None), None)
        if module is None:
            return
        names = variables.set_in(next(each for each in task.values() if isinstance(each, dict)), {}, forked.KNOWN)
        given = {option: self._values[name] for option, name in names.items() if name in self._values}
        known = _spec(module)
        spec = {option: known[option] | {"required": False, "default": None} for option in given if option in known}
        result = ArgumentSpecValidator(spec).validate({option: given[option] for option in spec})
        yield from (variables.told(said.rstrip("."), names) for said in result.error_messages)
        if not result.error_messages:
            limits = {option: each for option, each in getattr(module, "BOUNDS", {}).items() if option in spec}
            try:
                bounds.require(result.validated_parameters, limits)
            except RunbookError as error:
                yield variables.told(error.message.rstrip("."), names)


def _spec(module: Any) -> dict[str, dict[str, Any]]:
    """The argument spec that a module of ours hands to the bridge; this copy of it is never run."""
    said: dict[str, Any] = {}
    module.run_module = lambda _core, **given: said.update(given)
    module.main()
    return dict(said["argument_spec"])


def _tasks(loader: Any, path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of a file, those in blocks and in files that it imports too."""
    waiting = list(loader.load_from_file(str(path)) or ())
    while waiting:
        task = waiting.pop(0)
        for section in ("block", "rescue", "always"):
            waiting += task.get(section) or ()
        if "ansible.builtin.import_tasks" in task:
            waiting += loader.load_from_file(str(path.with_name(task["ansible.builtin.import_tasks"])))
        yield task


def _first(leaves: Mapping[str, Any]) -> Iterator[str]:
    """Each setting with its variable, as one text too."""
    for key, leaf in leaves.items():
        if not isinstance(leaf, dict):
            yield f"{key} {leaf if isinstance(leaf, str) else leaf[0]}"


def _reason(error: Exception) -> str:
    """Why a variable cannot be read, in few words; the text of a template is Ansible's own, and holds no value."""
    if not isinstance(error, AnsibleError):
        return type(error).__name__
    text = " ".join(str(error).split()).removeprefix("Error rendering template: ").rstrip(".")
    return text if len(text) <= _REASON else f"{text[:_REASON]}…"


def _is_published(value: EncryptedString) -> bool:
    """Whether everybody can decrypt it, because it is an example."""
    try:
        VaultLib([("default", VaultSecret(PUBLISHED.encode()))]).decrypt(value._ciphertext)  # noqa: SLF001 - no public name
    except AnsibleError:
        return False
    return True


def _plain(given: Mapping[str, Any]) -> Iterator[str]:
    """Secrets that were written down as they are: neither encrypted nor taken from elsewhere."""
    for name, raw in given.items():
        ours = name in forked.KNOWN.names or name.startswith(variables.FREE)
        if ours and isinstance(raw, str) and "{{" not in raw and record.secret_values({name: raw}):
            yield name


def _servers(given: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The hosts whose packages are updated: how they are reached, and as which machine they are pinned."""
    known = given.get("hostvars") or {}
    for name in (given.get("groups") or {}).get("servers") or ():
        said = known[name]
        yield {
            "name": str(name),
            "connection": str(said.get("ansible_connection") or "ssh"),
            "machine_id": str(said.get("server_machine_id") or ""),
        }


def _strays(given: Mapping[str, Any]) -> Iterator[str]:
    """Files beside the inventory that bear the name of no group or host, so that nobody reads them."""
    base, groups = given.get("inventory_dir"), given.get("groups") or {}
    hosts = {str(host) for members in groups.values() for host in members}
    for folder, names in (("group_vars", set(groups)), ("host_vars", hosts)):
        for path in sorted(Path(str(base), folder).glob("*")) if base else ():
            name = path.name if path.is_dir() else path.stem
            if name not in names and not re.match(r"[.~]", path.name) and (path.is_dir() or path.suffix in _READ):
                yield f"{folder}/{path.name}"
