"""Runs a module of this project in a fork of Ansible's worker; the other names in this folder are links to this file.

Ansible packs a module and all that it imports into an archive, starts a Python, and compiles every line again: half a
second of CPU before the module does anything. Modules of this project run on the machine that Ansible runs on. So what
they need is imported here once, before Ansible forks its workers, and a module is one more fork: a process of its own,
which ends as ever with its result on its standard output, and leaves nothing behind.

Where that does not fit (another connection, user or Python, and ``async``) the module is run as Ansible runs any other.
docs/adr/0017 has the reasons and the figures.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import ansible.module_utils
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils import _internal, basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.vars import load_extra_vars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from ansible.module_utils.runbook.rules.variables import Known

PROJECT = Path(__file__).resolve().parents[2]
if str(PROJECT / "module_utils") not in ansible.module_utils.__path__:
    # As in callback_plugins/run_record.py: under this name alone.
    ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))

from ansible.module_utils.runbook.drivers import remote, watchdog
from ansible.module_utils.runbook.rules import variables
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.run import forged
from ansible.module_utils.runbook.rules.status import Check

#: How options and results are written down: as plain JSON.
PROFILE = "legacy"
#: A module that says so works from here on the host of its task, by plain commands (``drivers/remote.py``).
BY_COMMANDS = "BY_COMMANDS"


def load(name: str) -> ModuleType | None:
    """Import a module of ``library/``; None where there is none of that name."""
    spec = importlib.util.spec_from_file_location(f"runbook_library_{name}", PROJECT / "library" / f"{name}.py")
    if spec is None or spec.loader is None or not Path(str(spec.origin)).exists():
        return None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _known_variables() -> Known:
    """The variables that the project has: what it declares and reads is the only list of them."""
    specs = sorted(PROJECT.glob("roles/*/meta/argument_specs.yml"))
    folders = ("roles/*/defaults", "roles/*/tasks", "playbooks", "playbooks/tasks")
    texts = [path for folder in folders for path in sorted(PROJECT.glob(f"{folder}/*.yml"))]
    return variables.known(
        tuple((path.parents[1].name, _text(path)) for path in specs), tuple(_text(path) for path in texts)
    )


def _text(path: Path) -> str:
    """What a file says; nothing where it went meanwhile, as an editor's own does."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


# Ansible imports a plugin before it forks its workers.
MODULE = load(Path(__file__).stem)
KNOWN = _known_variables()


def misspelt(known: Mapping[str, Any]) -> dict[str, str | None]:
    """Variables that do not exist, as :func:`variables.unknown` finds them.

    :param known: all variables of a host
    """
    found = variables.unknown(known, KNOWN)
    manager: Any = getattr(known.get("hostvars"), "_variable_manager", None)
    said = manager.extra_vars if found and manager is not None else {}
    if not said:
        return found
    # What -e replaced may have been what reads them.
    host = manager._inventory.get_host(str(known.get("inventory_hostname")))  # noqa: SLF001 - it has no public accessor
    try:
        manager._extra_vars = {}  # noqa: SLF001 - as above
        return variables.unknown(known, KNOWN, manager.get_vars(host=host, include_hostvars=False))
    finally:
        manager._extra_vars = said  # noqa: SLF001 - as above


class ActionModule(NormalAction):  # type: ignore[misc] # Ansible has no types
    """Runs :data:`MODULE` in a fork where it can, and as Ansible would where it cannot.

    Every module of ours passes here, in every playbook. So here a misspelt variable is refused, wherever it was set,
    and one that only tasks set.
    """

    module = MODULE
    #: Under which name a task has the module's options.
    name = Path(__file__).stem

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what a play says in our name and variables that nobody may set, then run the module."""
        known = task_vars or {}
        msg = forged(self._environ(), str(known.get("inventory_hostname", "")))
        if msg is not None:
            return refused("environment", msg)
        unknown = misspelt(known)
        if unknown:
            return refused("variables", variables.refusal(unknown))
        overridden = variables.overridden(known, load_extra_vars(self._loader), KNOWN)
        if overridden:
            return refused("variables", variables.refusal_of_own(overridden))
        return dict(super().run(tmp, task_vars))

    def _parse_returned_data(self, res: dict[str, Any], *args: Any) -> Any:
        """What the module says of its options, said of the variables that the inventory sets them by.

        Here, because Ansible makes more than one text of it.
        """
        options = (self._task.get_ds() or {}).get(self.name)
        if isinstance(options, dict):
            names = variables.set_in(options, self._task.get_vars(), KNOWN)
            lines = str(res.get("stdout", "")).splitlines()
            res = res | {"stdout": "\n".join(_in_variables(line, names) for line in lines)}
        return super()._parse_returned_data(res, *args)

    def _read(self, raw: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Exception]]:
        """Values of variables, read one by one, so that one that cannot be read hides no other; and those with why.

        :param raw: all variables, as they were written
        """
        self._templar.available_variables = raw
        values: dict[str, Any] = {}
        unread: dict[str, Exception] = {}
        for name in names:
            try:
                value = self._templar.template(raw[name])
            except Exception as error:  # whatever is wrong with it
                unread[name] = error
            else:
                if value is not raw.get("omit"):
                    values[name] = value
        return values, unread

    def _defaults(self, role: str = "*") -> dict[str, Any]:
        """What roles say where an inventory says nothing, as it was written."""
        found: dict[str, Any] = {}
        for path in sorted(PROJECT.glob(f"roles/{role}/defaults/main.yml")):
            found |= self._loader.load_from_file(str(path), trusted_as_template=True) or {}
        return found

    def _environ(self) -> dict[str, str]:
        """The ``environment`` of play, role, block and task together."""
        environ: dict[str, Any] = {}
        self._compute_environment_string(environ)
        return {str(name): str(value) for name, value in environ.items()}

    def _execute_module(self, *args: Any, task_vars: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        if self.module is None or args or not self._is_here(task_vars or {}) or options.get("wrap_async"):
            return dict(super()._execute_module(*args, task_vars=task_vars, **options))
        parameters = self._task.args
        self._announce(task_vars or {})
        self._update_module_args(self._task.action, parameters, task_vars or {})
        encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
        controller = os.getppid()
        done = in_fork(
            self.module,
            json.dumps({"ANSIBLE_MODULE_ARGS": parameters}, cls=encoder).encode(),
            self._environ(),
            self._send if hasattr(self.module, BY_COMMANDS) else None,
        )
        if os.getppid() != controller:
            # ansible-playbook was killed. Nobody reads the result, and a pipe that is full keeps whoever writes for
            # good, since all workers hold its other end.
            os._exit(1)
        result = self._parse_returned_data(done, PROFILE)
        # Since core 2.21 it is an object that knows how to travel to Ansible's main process.
        return dict(result.as_result_dict(for_round_trip=True) if hasattr(result, "as_result_dict") else result)

    def _announce(self, task_vars: dict[str, Any]) -> None:
        """Have what outlives this run know what the module may open, before it does."""
        host = str(task_vars.get("inventory_hostname", ""))
        hint = None if self._task.check_mode else closing.hint(self.name, host, self._task.args)
        if hint is not None:
            watchdog.tell(self.name, hint)

    def _is_here(self, task_vars: dict[str, Any]) -> bool:
        """Whether the module is to run on this machine, as this user, with this Python."""
        if hasattr(self.module, BY_COMMANDS):
            return not self._task.async_val
        python = self._templar.template(task_vars.get("ansible_python_interpreter"))
        return (
            self._connection.transport == "local"
            and self._connection.become is None
            and not self._task.async_val
            and python == sys.executable
        )

    def _send(self, line: str) -> tuple[int | None, str, str]:
        """Run a command line on the host of the task, by Ansible's connection and with its become."""
        try:
            # With something to read it gets no terminal, which would mix errors into the output.
            done = self._low_level_execute_command(line, sudoable=True, in_data=b"\n")
        except AnsibleConnectionFailure as error:
            return None, "", str(error)
        except AnsibleError as error:
            # It answers, and does not let this user do it: sudo asks for a password.
            return 1, "", str(error)
        return int(done["rc"]), str(done["stdout"]), str(done["stderr"])


def _in_variables(line: str, names: Mapping[str, str]) -> str:
    """A line of a module's output; its result with the variables in its sentences."""
    try:
        result = json.loads(line)
    except ValueError:
        return line
    if not isinstance(result, dict):
        return line
    # What a check or a setting is called is no option, though one may have the same name.
    own = frozenset(
        str(each.get(key)) for many, key in (("checks", "name"), ("plan", "setting"))
        for each in _listed(result, many) if isinstance(each, dict)
    )  # fmt: skip
    # A warning travels with its event.
    warned = [each.get("event") for each in result.get("warnings") or () if isinstance(each, dict)]
    for each in (result, *(result.get("checks") or ()), *_listed(result, "unknown"), *warned):
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            each["msg"] = variables.told(each["msg"], names, own)
    return json.dumps(result)


def _listed(result: Mapping[str, Any], name: str) -> list[Any]:
    """What a module calls so, where it is a list: with some it is a number."""
    found = result.get(name)
    return found if isinstance(found, list) else []


def refused(check: str, msg: str) -> dict[str, Any]:
    """The result of a module that was not run."""
    refused = Check.breach(check, msg).result()
    return {"failed": True, "changed": False, "status": refused["status"], "msg": msg, "checks": [refused]}


def in_fork(
    module: ModuleType, parameters: bytes, environ: dict[str, str], send: remote.Send | None = None
) -> dict[str, Any]:
    """Run a module in a child of this process; its output and exit code as a connection of Ansible's gives them.

    :param send: how it reaches the server that it works on
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            os.close(reader)
            if send is not None:
                remote.connect(send)
            _be_module(module, parameters, environ, stdout=writer, stderr=stderr.fileno())
        try:
            os.close(writer)
            with os.fdopen(reader, "rb") as stdout:
                said = stdout.read()
            _, status = os.waitpid(child, 0)
        except BaseException as error:
            # The task's own timeout, or Ctrl-C, which ends the whole run: what a module does then is to roll back.
            os.kill(child, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise
        stderr.seek(0)
        return {
            "rc": os.waitstatus_to_exitcode(status),
            "stdout": said.decode(errors="surrogateescape"),
            "stderr": stderr.read().decode(errors="replace"),
        }


def _be_module(module: ModuleType, parameters: bytes, environ: dict[str, str], *, stdout: int, stderr: int) -> NoReturn:
    """Become the module's process; it never returns into Ansible."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        os.environ.update(environ)
        # From here on this process is not Ansible's any more: warnings belong into the result.
        _internal.is_controller = False
        basic._ANSIBLE_ARGS = parameters  # noqa: SLF001 - where Ansible's own wrapper puts them
        basic._ANSIBLE_PROFILE = PROFILE  # noqa: SLF001 - likewise
        module.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # No handler of Ansible's may run here.
            os._exit(code)
