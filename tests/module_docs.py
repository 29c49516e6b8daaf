"""Whether a module's documentation is what the module does: options, examples, results.

The argument spec is caught where a module hands it to ``run_module``, so it is the one that Ansible would use. The
documentation is read by Ansible's own reader, fragments included.
"""

from __future__ import annotations

import json
import re
import runpy
from typing import TYPE_CHECKING, Any

import ansible.module_utils.runbook.module as bridge
import yaml
from ansible.parsing.plugin_docs import read_docstring
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import add_fragments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Results that every module of the project gives, besides Ansible's own ``changed``.
RESULTS = {"msg", "status"}
#: What of an option must agree, and what it is where nothing is said.
PROPERTIES = {
    "type": "str",
    "elements": None,
    "required": False,
    "default": None,
    "choices": None,
    "aliases": None,
}


def argument_spec(path: Path) -> tuple[str, dict[str, Any]]:
    """Name and argument spec that the module at ``path`` hands to ``run_module``."""
    caught: list[tuple[str, dict[str, Any]]] = []

    def catch(_core: object, *, name: str, argument_spec: dict[str, Any], **_spec: object) -> None:
        caught.append((name, argument_spec))

    original, bridge.run_module = bridge.run_module, catch  # type: ignore[assignment]  # the catcher returns, it is not run
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        bridge.run_module = original
    if len(caught) != 1:
        raise AssertionError(f"{path.name} calls run_module {len(caught)} times.")
    return caught[0]


def documentation(path: Path, fragments: Path) -> dict[str, Any]:
    """DOCUMENTATION with its fragments, EXAMPLES and RETURN (``doc``, ``plainexamples``, ``returndocs``)."""
    found: dict[str, Any] = read_docstring(str(path), verbose=False)
    if found["doc"]:
        fragment_loader.add_directory(str(fragments))
        add_fragments(found["doc"], str(path), fragment_loader=fragment_loader, is_module=True)
    # Ansible's reader gives tagged subclasses of str and list; JSON has only the plain ones.
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def compare_options(spec: dict[str, Any], documented: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Differences between an argument spec and documented options, sub-options included."""
    for name in sorted(spec.keys() ^ documented.keys()):
        yield f"{prefix}{name} is {'not documented' if name in spec else 'documented, and no option'}"
    for name in sorted(spec.keys() & documented.keys()):
        option, text = spec[name], documented[name]
        for key, otherwise in PROPERTIES.items():
            coded, written = option.get(key, otherwise), text.get(key, otherwise)
            if coded != written or type(coded) is not type(written):
                yield f"{prefix}{name}: {key} is {coded!r} in the code and {written!r} in the documentation"
        if not text.get("description"):
            yield f"{prefix}{name} has no description"
        yield from compare_options(option.get("options") or {}, text.get("suboptions") or {}, f"{prefix}{name}.")


def check_module(path: Path, fragments: Path) -> Iterator[str]:
    """What is wrong with the documentation of the module at ``path``."""
    name, spec = argument_spec(path)
    if name != path.stem:
        yield f"run_module is told the name {name}"
    found = documentation(path, fragments)
    if not found["doc"] or not found["plainexamples"] or not found["returndocs"]:
        yield "DOCUMENTATION, EXAMPLES or RETURN is missing"
        return
    if found["doc"].get("module") != path.stem:
        yield f"DOCUMENTATION says module: {found['doc'].get('module')}"
    yield from compare_options(spec, found["doc"].get("options") or {})
    for missing in sorted(RESULTS - found["returndocs"].keys()):
        yield f"RETURN does not tell of {missing}"
    examples = yaml.safe_load(re.sub(r"!\w+ ", "", found["plainexamples"])) or []
    used = [task[path.stem] for task in examples if path.stem in task]
    if not used:
        yield "EXAMPLES show no task with this module"
    for options in used:
        for option in sorted(set(options or {}) - spec.keys()):
            yield f"EXAMPLES use {option}, which is no option"
        for option in sorted({key for key, value in spec.items() if value.get("required")} - set(options or {})):
            yield f"EXAMPLES leave out {option}, which is required"


def check_tasks(tasks: Iterator[tuple[Path, dict[str, Any]]], library: Path) -> Iterator[str]:
    """Tasks that give one of our modules an option that it does not have, or leave out one that it needs."""
    specs = {path.stem: argument_spec(path)[1] for path in library.glob("*.py")}
    for path, task in tasks:
        for name in specs.keys() & task.keys():
            where, spec, given = f"{path}, task {task.get('name')!r}", specs[name], set(task[name] or {})
            for option in sorted(given - spec.keys()):
                yield f"{where}: {name} has no option {option}"
            for option in sorted({key for key, value in spec.items() if value.get("required")} - given):
                yield f"{where}: {name} needs the option {option}"
