"""The project's arrows and habits, as checks that read files and run nothing.

Each check takes the root of a project and yields findings, one sentence each: where, what, and what to do instead. The
test test_architecture.py holds them to an empty list, and proves on small bad projects that each of them can fail.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

RUNBOOK = "ansible.module_utils.runbook"

# Reading ------------------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the quick one where it was built
    """YAML as Ansible writes it: an unknown tag (``!vault``) is its plain text."""


_Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


@cache
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Many checks ask for the same one: nobody changes what is returned."""
    return _parsed(path.read_text())


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _nodes(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_tree(text)))


@dataclass(frozen=True)
class Import:
    """One imported name; ``name`` is None for ``import module``."""

    path: Path
    line: int
    module: str
    name: str | None

    @property
    def full(self) -> str:
        """Module and name, as far as is known."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, those for type checkers and those inside functions too."""
    for node in _nodes(path.read_text()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(path, node.lineno, module, alias.name)


def python_files(root: Path, folder: str) -> list[Path]:
    """Python files under a folder of the project, in order."""
    return sorted((root / folder).rglob("*.py"))


def tracked_files(root: Path) -> list[Path]:
    """Files that are, or on the next commit could be, part of the project."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        found = [root / name for name in done.stdout.split("\0") if name]
    else:
        hidden = {".git", ".venv", ".sandbox", ".cache", ".ansible", "runs", "__pycache__"}
        found = [path for path in root.rglob("*") if not hidden & set(path.relative_to(root).parts)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def _where(root: Path, path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(root)}:{line}" if line else str(path.relative_to(root))


# Rooms ----------------------------------------------------------------------------------------------------------------

#: Subjects. What belongs to one lies in a folder of that name, in each layer and in each kind of test; what all
#: subjects share lies above the folders.
ROOMS = {
    "backup", "board", "capacity", "change", "deploy", "drill", "http", "keys", "logs", "observe", "postgres", "s3",
    "sandbox", "schedule", "supabase", "tls", "updates", "web",
}  # fmt: skip
#: Where rooms are.
HOUSES = (
    "module_utils/runbook/rules", "module_utils/runbook/drivers", "tests/unit", "tests/integration", "tests/faults",
)  # fmt: skip


def check_rooms(root: Path) -> Iterator[str]:
    """A folder of a layer, or of a kind of test, is the room of a subject, and its name is the same everywhere."""
    for house in HOUSES:
        for path in python_files(root, house):
            rooms = path.relative_to(root / house).parts[:-1]
            if len(rooms) > 1 or not ROOMS.issuperset(rooms):
                yield (
                    f"{_where(root, path)}: {'/'.join(rooms)} is no room; they are {', '.join(sorted(ROOMS))}, and a "
                    "new subject is added to ROOMS."
                )


# Arrows ---------------------------------------------------------------------------------------------------------------

#: Standard library that touches the world, or a clock; rules are handed what they need.
IMPURE = {
    "asyncio", "http", "io", "logging", "multiprocessing", "os", "pathlib", "platform", "random", "select", "shutil",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
#: Of an impure module, what only looks at text.
PURE_NAMES = {"pathlib.PurePath", "pathlib.PurePosixPath", "urllib.parse"}
CLOCKS = {"now", "utcnow", "today"}
#: A driver that must decide where it reads: the lease's row is locked until the decision is written, a session proves
#: who answered before anybody can ask it anything, and no document gets into the state store, or out of it, unchecked.
DRIVERS_THAT_DECIDE = {
    ("lease.py", f"{RUNBOOK}.rules.lease"),
    ("postgres.py", f"{RUNBOOK}.rules.identity"),
    ("state_store.py", f"{RUNBOOK}.rules.state"),
    ("state_lease.py", f"{RUNBOOK}.rules.state"),
}
#: Ansible's HTTP client knows proxies and certificates on every bastion, and needs no AnsibleModule.
DRIVERS_ON_ANSIBLE = {("api_client.py", "ansible.module_utils.urls")}


def _layer(module: str) -> str | None:
    """Which of our layers a module is of: errors, module, rules, drivers, report; None if it is not ours."""
    if module != RUNBOOK and not module.startswith(RUNBOOK + "."):
        return None
    parts = module.removeprefix(RUNBOOK).lstrip(".").split(".")
    return parts[0] or "runbook"


def _resolved(found: Import) -> str:
    """``from a.b import c`` names module ``a.b.c`` where ``c`` is one of our modules, rooms or layers."""
    layers = {f"{RUNBOOK}.{layer}" for layer in ("rules", "drivers", "report")}
    rooms = {f"{layer}.{room}" for layer in layers for room in ROOMS}
    return found.full if found.module in {RUNBOOK, *layers, *rooms} else found.module


def check_rules_are_pure(root: Path) -> Iterator[str]:
    """Rules import the standard library, the errors and other rules; they read no clock, file or environment."""
    for path in python_files(root, "module_utils/runbook/rules"):
        for found in imports(path):
            where, top = _where(root, path, found.line), found.module.split(".")[0]
            layer = _layer(_resolved(found))
            if layer:
                if layer not in {"errors", "rules"}:
                    yield f"{where}: a rule imports {found.full}; rules import only errors and other rules."
            elif top not in sys.stdlib_module_names:
                yield f"{where}: a rule imports {found.full}; rules import only the standard library."
            elif top in IMPURE and found.full not in PURE_NAMES and found.module not in PURE_NAMES:
                yield f"{where}: a rule imports {found.full}; let the caller hand over what it gives."
        for node in _nodes(path.read_text()):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}:
                yield (f"{_where(root, path, node.lineno)}: a rule calls {node.func.id}(); rules touch nothing.")
            elif (
                isinstance(node.func, ast.Attribute)
                and node.func.attr in CLOCKS
                and isinstance(node.func.value, ast.Name | ast.Attribute)
                and ast.unparse(node.func.value).split(".")[-1] in {"datetime", "date"}
            ):
                yield f"{_where(root, path, node.lineno)}: a rule reads the clock; take now as an argument."


def check_drivers_do_not_decide(root: Path) -> Iterator[str]:
    """Drivers take types and constants from rules, how names and figures are written, and know no Ansible."""
    for path in python_files(root, "module_utils/runbook/drivers"):
        for found in imports(path):
            where, resolved = _where(root, path, found.line), _resolved(found)
            layer = _layer(resolved)
            if layer is None:
                if found.module.split(".")[0] == "ansible" and (path.name, found.module) not in DRIVERS_ON_ANSIBLE:
                    yield f"{where}: a driver imports {found.full}; only module.py touches Ansible."
            elif layer == "rules":
                rule = resolved if resolved != f"{RUNBOOK}.rules" else found.full
                named = found.name if found.module == rule else None
                is_data = named is not None and named.lstrip("_")[:1].isupper()
                if (
                    not is_data
                    and rule not in {f"{RUNBOOK}.rules.identifiers", f"{RUNBOOK}.rules.words"}
                    and (path.name, rule) not in DRIVERS_THAT_DECIDE
                ):
                    yield (
                        f"{where}: a driver imports {found.full}; it may take types and constants from a rule, and the "
                        "module calls the rule's functions."
                    )
            elif layer not in {"errors", "drivers"}:
                yield f"{where}: a driver imports {found.full}; drivers stand below {layer}."


def check_module_bridge(root: Path) -> Iterator[str]:
    """Only module.py touches AnsibleModule; library files reach the world through drivers alone."""
    world = {"boto3", "botocore", "http", "psycopg2", "requests", "socket", "ssl", "subprocess", "urllib", "urllib3"}
    for path in python_files(root, "library"):
        for found in imports(path):
            where, top = _where(root, path, found.line), found.module.split(".")[0]
            layer = _layer(_resolved(found))
            if layer:
                if layer not in {"errors", "module", "drivers", "rules"}:
                    yield (f"{where}: a module imports {found.full}; modules import module.py, drivers and rules.")
            elif top == "ansible":
                yield (f"{where}: a module imports {found.full}; {RUNBOOK}.module is the only bridge to Ansible.")
            elif (top in world and found.module not in PURE_NAMES) or top not in sys.stdlib_module_names:
                yield f"{where}: a module imports {found.full}; put that into a driver."
    for path in python_files(root, "module_utils"):
        if path == root / "module_utils/runbook/module.py":
            continue
        for found in imports(path):
            if found.module.startswith("ansible.module_utils.basic") or found.full == "ansible.module_utils.basic":
                yield f"{_where(root, path, found.line)}: imports AnsibleModule; that is module.py's part."


#: What stands above the drivers and must know a process (whether the run's own one lives, how a module is stopped),
#: when the run must be over, and where copies of records go.
ABOVE_ON_DRIVERS = {
    ("module.py", f"{RUNBOOK}.drivers.permits"),
    ("module.py", f"{RUNBOOK}.drivers.process"),
    ("module.py", f"{RUNBOOK}.drivers.stopping"),
    ("run_record.py", f"{RUNBOOK}.drivers.links"),
    ("run_record.py", f"{RUNBOOK}.drivers.process"),
    ("run_record.py", f"{RUNBOOK}.drivers.state_lease"),
    ("run_record.py", f"{RUNBOOK}.drivers.watchdog"),
    ("forked_module.py", f"{RUNBOOK}.drivers.remote"),
    ("forked_module.py", f"{RUNBOOK}.drivers.watchdog"),
    ("server_module.py", f"{RUNBOOK}.drivers.permits"),
    ("run_record.py", f"{RUNBOOK}.drivers.state_store"),
}


def check_upper_layers(root: Path) -> Iterator[str]:
    """Nothing imports the library; module.py and the report know no driver of a target, and no module."""
    modules = {path.stem for path in python_files(root, "library")}
    for folder in ("library", "module_utils", "playbooks", "filter_plugins", "tools", "bench", "tests", "molecule"):
        for path in python_files(root, folder):
            for found in imports(path):
                top = found.module.split(".")[0]
                if top == "library" or top in modules or found.full.startswith("ansible.modules."):
                    yield (f"{_where(root, path, found.line)}: imports {found.full}; nothing imports a module.")
    above = {
        "module_utils/runbook/errors.py": {"errors", "rules"},
        "module_utils/runbook/module.py": {"errors", "rules"},
        "module_utils/runbook/report": {"errors", "rules", "report"},
        "playbooks/callback_plugins": {"errors", "rules", "report"},
        "playbooks/action_plugins": {"errors", "rules"},
        "filter_plugins": {"errors", "rules"},
    }
    for place, allowed in above.items():
        for path in [root / place] if place.endswith(".py") and (root / place).exists() else python_files(root, place):
            for found in imports(path):
                layer = _layer(_resolved(found))
                if layer and layer not in allowed and (path.resolve().name, found.full) not in ABOVE_ON_DRIVERS:
                    where = _where(root, path, found.line)
                    yield f"{where}: imports {found.full}; it may import {', '.join(sorted(allowed))}."


def check_report_names_no_module(root: Path) -> Iterator[str]:
    """What the record and the reports know of a module stands in report/sections, with its subject."""
    modules = "|".join(sorted(path.stem for path in python_files(root, "library")))
    report = root / "module_utils/runbook/report"
    paths = [path for path in sorted(report.rglob("*.*")) if path.suffix in {".py", ".j2"}]
    for path in [root / "module_utils/runbook/rules/record.py", *paths]:
        if not modules or not path.exists() or report / "sections" in path.parents:
            continue
        for number, line in enumerate(_text(path).splitlines(), 1):
            found = re.search(rf"\b(?:{modules})\b", line)
            if found:
                yield f"{_where(root, path, number)}: names {found[0]}; a section in report/sections says it."


def check_one_import_name(root: Path) -> Iterator[str]:
    """The shared code has one import name; a second one would load its exception classes twice."""
    for folder in ("library", "module_utils", "playbooks", "filter_plugins", "tools", "bench", "tests", "molecule"):
        for path in python_files(root, folder):
            yield from (
                f"{_where(root, path, found.line)}: imports {found.full}; the shared code is {RUNBOOK}."
                for found in imports(path)
                if found.module.split(".")[0] in {"module_utils", "runbook"} or found.module.startswith(".")
            )


#: The words of ``rules/status.py``.
STATUSES = frozenset({"ok", "breach", "unknown"})


def _is_status(node: ast.AST | None) -> bool:
    """Whether an expression is called a status: ``status``, ``x.status``, ``x["status"]`` or ``x.get("status")``."""
    match node:
        case (
            ast.Name(id="status")
            | ast.arg(arg="status")
            | ast.Attribute(attr="status")
            | ast.Subscript(slice=ast.Constant(value="status"))
            | ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value="status"), *_])
        ):
            return True
        case ast.Tuple(elts=parts):
            return any(map(_is_status, parts))
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return _is_status(inner)
    return False


def _written_out(node: ast.AST | None) -> Iterator[ast.Constant]:
    """The statuses among the values that an expression may have, or that it holds."""
    parts: list[Any] = []
    match node:
        case ast.Constant(value=str(value)) if value in STATUSES:
            yield node
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.BoolOp(values=parts):
            pass
        case ast.Dict(keys=parts):
            pass
        case ast.IfExp(body=one, orelse=other):
            parts = [one, other]
        case ast.Call(func=ast.Name(id="str"), args=parts):
            pass
    for part in parts:
        yield from _written_out(part)


def _meets_a_status(node: ast.AST) -> list[ast.AST | None]:
    """What one node compares with a status, gives to one, or looks a status up in."""
    named: list[Any] = []
    values: list[Any] = []
    match node:
        case ast.keyword(arg="status", value=value) | (ast.Constant(value="breach") as value):
            # Nothing else is called a breach.
            return [value]
        case ast.Dict(keys=keys, values=given):
            return [value for key, value in zip(keys, given, strict=True) if key and ast.unparse(key) == "'status'"]
        case ast.arguments(args=args, kwonlyargs=more, defaults=defaults, kw_defaults=others):
            pairs = [*zip(reversed(args), reversed(defaults), strict=False), *zip(more, others, strict=True)]
            return [default for arg, default in pairs if _is_status(arg)]
        case ast.Compare(left=left, comparators=others):
            named = values = [left, *others]
        case ast.Assign(targets=named, value=value):
            values = [value]
        case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            named, values = [target], [value]
        case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
            named, values = [target], [value]
        case ast.Subscript(value=table, slice=key):
            named, values = [key], [table]
        case ast.Call(func=ast.Attribute(value=table, attr="get" | "index" | "count"), args=[key, *_]):
            named, values = [key], [table]
    return values if any(map(_is_status, named)) else []


def check_statuses(root: Path) -> Iterator[str]:
    """A status is a ``Status``: no code writes its word out."""
    for path in [each for folder in ("library", "module_utils", "playbooks") for each in python_files(root, folder)]:
        if path == root / "module_utils/runbook/rules/status.py":
            continue
        found = {
            (word.lineno, str(word.value))
            for node in _nodes(path.read_text())
            for value in _meets_a_status(node)
            for word in _written_out(value)
        }
        for line, word in sorted(found):
            yield f"{_where(root, path, line)}: writes the status {word!r} out; say Status.{word.upper()}."


def _own_statuses(node: ast.AST) -> Iterator[int]:
    """Lines of an expression that put a status into its result, but for ``conclude`` and what lies deeper."""
    match node:
        case ast.Call(func=ast.Attribute(attr="conclude")):
            return
        case ast.Call(func=ast.Name(id=name)) if name != "dict":
            # A value that is concluded elsewhere.
            return
        case ast.keyword(arg="status"):
            yield node.value.lineno
        case ast.Dict(keys=keys, values=values):
            yield from (key.lineno for key in keys if key and ast.unparse(key) == "'status'")
            # ``**more`` is of the same result.
            for value in [value for key, value in zip(keys, values, strict=True) if key is None]:
                yield from _own_statuses(value)
            return
    for child in ast.iter_child_nodes(node):
        yield from _own_statuses(child)


def check_modules_conclude(root: Path) -> Iterator[str]:
    """A module that judges has one way to end."""
    for path in python_files(root, "library"):
        tree = _tree(path.read_text())
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Return) and node.value:
                for line in _own_statuses(node.value):
                    yield f"{_where(root, path, line)}: returns a status of its own; end by context.conclude."
        told: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RETURN":
                told = set(yaml.load(ast.literal_eval(node.value), Loader=_Loader) or {})  # noqa: S506 - a SafeLoader
        concludes = any(isinstance(node, ast.Attribute) and node.attr == "conclude" for node in nodes)
        if told & {"checks", "findings"} and not concludes:
            yield f"{_where(root, path)}: returns checks or findings; end by context.conclude, which judges them."


def check_sql_is_ascii(root: Path) -> Iterator[str]:
    """A database of another encoding refuses a statement with a letter that it does not have."""
    for path in [*python_files(root, "module_utils"), *python_files(root, "library")]:
        yield from (
            f"{_where(root, path, node.lineno)}: this SQL holds what is not ASCII; say it in Python."
            for node in _nodes(path.read_text())
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isascii()
            if re.search(r"\bSELECT\b.*\b(AS|FROM)\b", node.value, re.DOTALL)
        )


# Tasks ----------------------------------------------------------------------------------------------------------------

SHELLS = {"command", "shell", "raw", "script", "expect"}
TASK_KEYWORDS = {
    "action", "any_errors_fatal", "args", "async", "become", "become_user", "changed_when", "check_mode", "connection",
    "debugger", "delay", "delegate_facts", "delegate_to", "diff", "environment", "failed_when", "ignore_errors",
    "ignore_unreachable", "listen", "local_action", "loop", "loop_control", "module_defaults", "name", "no_log",
    "notify", "poll", "register", "retries", "run_once", "tags", "throttle", "timeout", "until", "vars", "when",
    "block", "rescue", "always",
}  # fmt: skip


def flatten(tasks: Any) -> Iterator[dict[str, Any]]:
    """Every task, those inside blocks too; the blocks themselves first."""
    for task in tasks or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from flatten(task.get(part))


def module_of(task: dict[str, Any]) -> str:
    """Short name of the task's module; empty for a block."""
    for key in task:
        if key not in TASK_KEYWORDS and not key.startswith("with_"):
            return str(key).split(".")[-1]
    return ""


def playbooks(root: Path) -> list[Path]:
    """Every playbook, without those that tests put beside them for as long as they run."""
    return sorted(path for path in (root / "playbooks").glob("*.yml") if not path.name.startswith("own-"))


def plays(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every play of every playbook; an ``import_playbook`` is none."""
    for path in playbooks(root):
        for play in read_yaml(path) or []:
            if "hosts" in play:
                yield path, play


def role_tasks(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every task and handler of every role."""
    for folder in ("tasks", "handlers"):
        for path in sorted(root.glob(f"roles/*/{folder}/**/*.yml")):
            for task in flatten(read_yaml(path)):
                yield path, task


def play_tasks(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every task of every playbook."""
    for path, play in plays(root):
        for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
            for task in flatten(play.get(section)):
                yield path, task


def check_tasks(root: Path) -> Iterator[str]:
    """No shell, no set_fact, no ignored error, no logic in Jinja; a role includes no other role."""
    for path, task in [*role_tasks(root), *play_tasks(root)]:
        where = f"{_where(root, path)}, task {task.get('name', '?')!r}"
        module = module_of(task)
        legacy = str(task.get("action") or task.get("local_action") or "").split()[:1]
        if module in SHELLS or (legacy and legacy[0].split(".")[-1] in SHELLS):
            yield f"{where}: runs {module or legacy[0]}; write a module with a check mode."
        if module == "set_fact":
            yield f"{where}: set_fact; decide in a module and return it."
        if task.get("ignore_errors") or task.get("ignore_unreachable"):
            yield f"{where}: ignores errors; an error that may be ignored is a result of the module."
        if module in {"include_role", "import_role"} and "roles" in path.relative_to(root).parts:
            yield f"{where}: a role includes a role; playbooks put roles together."
        if "{%" in str(task):
            yield f"{where}: logic in Jinja; put it into a module."
        if "name" not in task:
            yield f"{where}: a {module or 'block'} without a name; the record shows names."
    for path in sorted(root.glob("roles/*/meta/main.yml")):
        if (read_yaml(path) or {}).get("dependencies"):
            yield f"{_where(root, path)}: a role depends on a role; playbooks put roles together."


def check_booleans(root: Path) -> Iterator[str]:
    """A variable that is true or false is made one where it decides: ``-e name=false`` is a text, which is true."""
    specs = [read_yaml(path) or {} for path in sorted(root.glob("roles/*/meta/argument_specs.yml"))]
    options = [each.get("options") or {} for spec in specs for each in (spec.get("argument_specs") or {}).values()]
    names = {name for found in options for name, option in found.items() if option.get("type") == "bool"}
    if not names:
        return
    name = rf"\b({'|'.join(sorted(names))})\b"
    made = re.compile(rf"{name}(?: \| default\([^)]*\))? ?\| ?bool\b")
    decides = re.compile(rf"{name}.*\b(?:and|or|if|else|ternary)\b|\b(?:and|or|if|not)\b.*{name}|^{name}$")
    for path, task in [*role_tasks(root), *play_tasks(root)]:
        conditions = task.get("when", [])
        said = list(conditions) if isinstance(conditions, list) else [conditions]
        said += [text for text in _texts({key: value for key, value in task.items() if key != "when"}) if "{{" in text]
        for text in said:
            found = decides.search(made.sub("", str(text)).strip())
            if found:
                yield f"{_where(root, path)}, task {task.get('name', '?')!r}: {text!r} decides by a text; add | bool."


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def check_targets_are_pinned(root: Path) -> Iterator[str]:
    """A task that names a database says which cluster is meant, so that the module compares."""
    for path, task in [*role_tasks(root), *play_tasks(root)]:
        for name, options in task.items():
            if isinstance(options, dict) and "login_host" in options and "system_identifier" not in options:
                yield f"{_where(root, path)}: {name} has login_host and no system_identifier; any cluster would do."


def check_plays(root: Path) -> Iterator[str]:
    """Plays gather no facts, and tell modules for which host they work."""
    for path, play in plays(root):
        where = f"{_where(root, path)}, play {play.get('name', '?')!r}"
        if play.get("gather_facts") is not False:
            yield f"{where}: says no gather_facts: false; gathering costs more than most plays."
        on_databases = "databases" in re.split(r"[:,!&]", str(play["hosts"]))
        if on_databases and (play.get("environment") or {}).get("RUNBOOK_HOST") != "{{ inventory_hostname }}":
            yield (
                f'{where}: its environment lacks RUNBOOK_HOST: "{{{{ inventory_hostname }}}}"; without it progress '
                "names no host."
            )
        if play.get("any_errors_fatal"):
            yield f"{where}: any_errors_fatal; one red database does not stop the others."


# Roles ----------------------------------------------------------------------------------------------------------------

#: Variables of the inventory that several roles read; each role's argument specs name those it reads.
SHARED_PREFIXES = (
    "app_branch",
    "app_committer_",
    "app_repository",
    "app_staging_branch",
    "app_keys_url",
    "app_url",
    "app_version_url",
    "aws_",
    "backup_",
    "change_needs",
    "db_",
    "emergency_contacts",
    "maintenance_",
    "monitoring_alertmanager_",
    "monitoring_prometheus_",
    "pagerduty_",
    "preflight_system_identifier",
    "schedule_jobs",
    "runbook_",
    "s3_",
    "server_hostname",
    "server_machine_id",
    "state_",
    "supabase_",
    "vercel_",
)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "path": str, "raw": object, "bool": bool, "int": int, "float": (int, float), "list": list, "dict": dict,
}  # fmt: skip


def _entry_points(root: Path, role: str) -> set[str]:
    """The files of tasks with which playbooks enter a role."""
    found = {"main"}
    for _path, task in play_tasks(root):
        for key, value in task.items():
            if str(key).split(".")[-1] in {"import_role", "include_role"} and value.get("name") == role:
                found.add(str(value.get("tasks_from", "main")).removesuffix(".yml"))
    return found


def _has_type(value: Any, name: str) -> bool:
    if name in {"int", "float"} and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[name])


def check_role_arguments(root: Path) -> Iterator[str]:
    """A role's argument specs equal its defaults: names, values and types."""
    for role in sorted(path for path in (root / "roles").glob("*") if path.is_dir()):
        where = _where(root, role)
        spec_file, defaults_file = role / "meta/argument_specs.yml", role / "defaults/main.yml"
        if not spec_file.exists():
            yield f"{where}: has no meta/argument_specs.yml."
            continue
        defaults = (read_yaml(defaults_file) or {}) if defaults_file.exists() else {}
        specs = read_yaml(spec_file)["argument_specs"]
        for entry in sorted(_entry_points(root, role.name) - specs.keys()):
            yield f"{where}: a playbook uses tasks/{entry}.yml, which has no argument spec."
        for entry in sorted(specs.keys() - {path.stem for path in (role / "tasks").glob("*.yml")}):
            yield f"{where}: there is an argument spec for {entry}, and no such file of tasks."
        options: dict[str, dict[str, Any]] = {}
        for entry, spec in specs.items():
            for name, option in (spec.get("options") or {}).items():
                if options.setdefault(name, option) != option:
                    yield f"{where}: {name} differs between entry points; {entry} says something else."
        for name in defaults:
            if name not in options:
                yield f"{where}: the default {name} is in no argument spec."
        for name, option in options.items():
            wrong = _compare_argument(role.name, name, option, defaults)
            if wrong:
                yield f"{where}: {name} {wrong}."


def _compare_argument(role: str, name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str | None:
    """What is wrong with one option of a role; None if nothing is."""
    wrong = None
    value = defaults.get(name)
    shared = name.startswith(SHARED_PREFIXES)
    if not shared and not name.startswith(f"{role}_"):
        wrong = f"has not the prefix {role}_"
    elif "type" not in option or "description" not in option:
        wrong = "lacks its type or description"
    elif name not in defaults:
        if "default" in option:
            wrong = "has a default in the argument spec, and none in defaults/main.yml"
        elif not option.get("required") and not shared:
            wrong = "is neither required nor has it a default"
    elif option.get("required"):
        wrong = "is required and has a default"
    elif isinstance(value, str) and "{{" in value:
        if "default" in option:
            wrong = "is templated; its argument spec can hold no default"
    elif option.get("default") != value or type(option.get("default")) is not type(value):
        wrong = f"is {value!r} in defaults/main.yml and {option.get('default')!r} in the argument spec"
    elif value is not None and not _has_type(value, option["type"]):
        wrong = f"is {value!r}, and its type is said to be {option['type']}"
    elif option.get("choices") and value not in option["choices"]:
        wrong = f"is {value!r}, which is none of its choices"
    return wrong


def check_role_names(root: Path) -> Iterator[str]:
    """Every variable that a role sets bears the role's name."""

    def refuse(path: Path, role: str, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if not name.startswith((f"{role}_", f"__{role}_")):
                yield f"{_where(root, path)}: the variable {name} has not the prefix {role}_ or __{role}_."

    for role in sorted(path for path in (root / "roles").glob("*") if path.is_dir()):
        for path in [*role.glob("defaults/**/*.yml"), *role.glob("vars/**/*.yml")]:
            yield from refuse(path, role.name, read_yaml(path) or {})
        for path, task in role_tasks(root):
            if role in path.parents:
                control = task.get("loop_control") or {}
                named = [task.get("register"), control.get("loop_var"), control.get("index_var")]
                yield from refuse(path, role.name, [*(task.get("vars") or {}), *filter(None, named)])


# Text -----------------------------------------------------------------------------------------------------------------

_PLACES = re.compile(
    r"\b(?:pypi|pythonhosted|npmjs|crates|rubygems|galaxy\.ansible|registry-1)\.(?:org|com|io)\b"
    r"|(?<![\w.}>-])/(?:work|root|home|Users)/[\w.]"
)
_SILENCER = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b.*")
_GOOD_SILENCER = re.compile(
    r"# (?:noqa: (?P<rule>[A-Z]+\d+)|type: ignore\[(?P<error>[\w-]+)\])(?: +(?:-|#) (?P<why>\w.{4,}))?$"
)


def check_text(root: Path) -> Iterator[str]:
    """No file names the host of a package registry or a path of somebody's machine."""
    for path in tracked_files(root):
        for number, line in enumerate(_text(path).splitlines(), 1):
            found = _PLACES.search(line)
            if found:
                yield f"{_where(root, path, number)}: names {found[0]!r}, which belongs to one place only."


#: Words that are not the field's, and what is said in their place.
_PLAIN = {
    "anew": "again, or rewritten, recreated",
    "broken off": "cancelled, or interrupted",
    "cure": "fix",
    "cures": "fixes",
    "living": "live",
    "passed over": "skipped",
    "planted": "injected",
    "self-hosted": "self-managed",
    "stepped aside": "was swapped out",
    "upkeep": "maintenance",
}
_ODD = re.compile(rf"(?<![A-Za-z])({'|'.join(_PLAIN)})(?![A-Za-z])", re.IGNORECASE)


def check_words(root: Path) -> Iterator[str]:
    """Texts and names use the terms that PostgreSQL, AWS, Ansible and operations people use."""
    for path in tracked_files(root):
        if path.name in {"architecture.py", "test_architecture.py"}:
            continue
        for number, line in enumerate(_text(path).splitlines(), 1):
            for found in _ODD.findall(line):
                yield f"{_where(root, path, number)}: {found!r}; say {_PLAIN[found.lower()]}."


#: What follows a number and is a word of many: up to two words, then a plural.
_MANY = re.compile(r" (?:[a-z]+ ){0,2}?(\w{2,}s|entries|copies|processes|children)\b(?!/| as )")
#: What ends like a plural and is none, or is a unit.
_NO_PLURAL = frozenset(
    {"across", "as", "bytes", "ends", "has", "holds", "is", "its", "less", "needs", "plus", "stays", "this", "was"}
)


def _is_number(value: ast.FormattedValue) -> bool:
    """Whether a part of an f-string is a number: its length, a sum, or what is written like one."""
    written = ast.unparse(value.format_spec) if value.format_spec else ""
    if "," in written or ".0f" in written:
        return True
    called = value.value.func if isinstance(value.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in {"len", "sum"}


def check_counts(root: Path) -> Iterator[str]:
    """A message agrees with its number: ``1 row``, and no ``row(s)``."""
    for path in [each for folder in ("library", "module_utils", "playbooks") for each in python_files(root, folder)]:
        for node in _nodes(path.read_text()):
            where = f"{_where(root, path)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and re.search(r"[a-z]\(e?s\)(?!\w)", str(node.value)):
                yield f"{where}: one or many, in brackets; words.count() writes a number of things."
            for number, text in pairwise(node.values if isinstance(node, ast.JoinedStr) else ()):
                if not isinstance(number, ast.FormattedValue) or not isinstance(text, ast.Constant):
                    continue
                found = _MANY.match(str(text.value))
                if found and _is_number(number) and found[1] not in _NO_PLURAL:
                    yield f"{where}: {found[1]!r} is wrong after a 1; words.count() writes a number of things."


def check_silenced(root: Path) -> Iterator[str]:
    """A silenced rule says which and why: ``# noqa: CODE - reason``.

    A reason that was given once holds for that rule in the rest of the file. In YAML, where ansible-lint reads the
    whole comment as names of rules, the reason stands in a comment on the line above.
    """
    for path in tracked_files(root):
        lines = _text(path).splitlines()
        given: set[str] = set()
        for number, line in enumerate(lines, 1):
            where = _where(root, path, number)
            if path.suffix in {".yml", ".yaml"}:
                if re.search(r"# noqa\b", line) and not (number > 1 and lines[number - 2].lstrip().startswith("# ")):
                    yield f"{where}: a noqa without a comment above that says why."
            elif path.suffix in {".py", ".pyi"} and path.name not in {"architecture.py", "test_architecture.py"}:
                found = _SILENCER.search(line)
                good = _GOOD_SILENCER.match(found[0]) if found else None
                if good:
                    rule = good["rule"] or good["error"]
                    if good["why"]:
                        given.add(rule)
                    elif rule not in given:
                        yield f"{where}: {found[0] if found else ''!r} does not say why."
                elif found:
                    yield f"{where}: {found[0]!r} is not of the form '# noqa: CODE - reason'."


# The runbook's map ----------------------------------------------------------------------------------------------------

#: The runbook's bullets by section: how many tasks, steps or entries each section has.
BULLETS = {
    "Scheduled Maintenance Windows": 3,
    "Weekly Database Cleanup": 3,
    "Monthly Database Optimization": 3,
    "Log Rotation": 1,
    "Log Archival": 3,
    "Database Backups": 5,
    "File Storage Backups": 3,
    "Certificate Renewal": 1,
    "API Key Rotation": 5,
    "Security Patch Updates": 5,
    "Weekly Dependency Check": 3,
    "Monthly Major Updates": 5,
    "Weekly Performance Audit": 3,
    "Monthly Performance Review": 5,
    "Weekly Alert Review": 4,
    "Monthly Monitoring Audit": 4,
    "Monthly Capacity Review": 9,
    "Quarterly DR Drill": 11,
    "Pre-Maintenance Checklist": 6,
    "During Maintenance Checklist": 5,
    "Post-Maintenance Checklist": 7,
    "Automated Maintenance Jobs": 5,
    "Application Rollback": 2,
    "Database Rollback": 2,
    "Configuration Rollback": 2,
    "Emergency Maintenance": 9,
    "Emergency Contact List": 4,
}
_HEADING = re.compile(r"^#{2,4} (.+)$")
_ROW = re.compile(r"^\| *(\d+) *\|(.+)\|$")


def check_runbook_map(root: Path) -> Iterator[str]:
    """docs/runbook.md has a row for every bullet; a built one names files that exist, a planned one says so."""
    path = root / "docs/runbook.md"
    if not path.exists():
        yield "docs/runbook.md is missing."
        return
    section = ""
    rows: dict[str, list[int]] = {}
    text = path.read_text()
    for line_number, line in enumerate(text.splitlines(), 1):
        heading = _HEADING.match(line)
        if heading:
            section = heading[1].strip()
        row = _ROW.match(line)
        if not row:
            continue
        where = _where(root, path, line_number)
        rows.setdefault(section, []).append(int(row[1]))
        cells = [cell.strip() for cell in row[2].split("|")]
        if len(cells) != 5 or not all(cells):
            yield f"{where}: a row has number, task, state, what runs, test, human step, and none is empty."
            continue
        _task, state, runs, test, _human = cells
        if state not in {"built", "planned", "human"}:
            yield f"{where}: state {state!r}; it is built, planned or human."
        if state == "built":
            for cell in (runs, test):
                named = re.findall(r"`([\w./-]+/[\w./-]*)`", cell)
                if not named:
                    yield f"{where}: built, but {cell!r} names no file."
                yield from (f"{where}: {name} does not exist." for name in named if not (root / name).exists())
    for name, count in BULLETS.items():
        if rows.get(name) != list(range(1, count + 1)):
            yield (f"docs/runbook.md: section {name!r} has the rows {rows.get(name)}, the runbook 1 to {count}.")
    for playbook in playbooks(root):
        if f"playbooks/{playbook.name}" not in text:
            yield f"docs/runbook.md: does not mention playbooks/{playbook.name}."


def check_test_names(root: Path) -> Iterator[str]:
    """No two test files share a name: pytest imports them by name alone, and runs only one of the two."""
    seen: dict[str, Path] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        if path.name in seen:
            yield f"{_where(root, path, 1)}: {seen[path.name].relative_to(root)} has the same name."
        seen.setdefault(path.name, path)


CHECKS = (
    check_rooms,
    check_rules_are_pure,
    check_drivers_do_not_decide,
    check_module_bridge,
    check_upper_layers,
    check_report_names_no_module,
    check_one_import_name,
    check_statuses,
    check_modules_conclude,
    check_sql_is_ascii,
    check_tasks,
    check_booleans,
    check_targets_are_pinned,
    check_plays,
    check_role_arguments,
    check_role_names,
    check_text,
    check_words,
    check_counts,
    check_silenced,
    check_test_names,
    check_runbook_map,
)
