"""Makes a collection of the project's modules, as a tarball for a private registry or a disk without network.

It holds the modules, what they import, and their documentation. Roles and playbooks stay in the project: they need its
callback, which keeps the record and the permits of a run. So a module of the collection reads and checks anywhere, and
one that writes refuses outside of the project's own runs.

Run as a program it writes ``dist/<namespace>-<name>-<version>.tar.gz``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE, NAME = "mental_scribe", "runbook"
#: Where our folders stand in a collection.
FOLDERS = {"library": "modules", "module_utils": "module_utils", "doc_fragments": "doc_fragments"}
README = f"""# {NAMESPACE}.{NAME}

The modules of the Mental Scribe maintenance runbook. `ansible-doc {NAMESPACE}.{NAME}.pg_archive` is the manual of one.

Modules that read work anywhere. Modules that write refuse unless a playbook of the project itself runs them: its
preflight proves the target, takes the lease, and permits the run.

Each needs the Python packages that the project's `pyproject.toml` names, on the machine that it runs on.
"""


def version() -> str:
    """The project's version."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return str(said["project"]["version"])


def core_range() -> str:
    """The range of ansible-core, as a collection says it."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return next(str(each).removeprefix("ansible-core") for each in said if each.startswith("ansible-core"))


def assemble(parent: Path, namespace: str = NAMESPACE, name: str = NAME) -> Path:
    """Lay the collection out below ``parent/ansible_collections``; its folder.

    Files are the project's own, with the import name and the names of modules and fragments that they have there.
    """
    root = parent / "ansible_collections" / namespace / name
    for ours, theirs in FOLDERS.items():
        shutil.copytree(ROOT / ours, root / "plugins" / theirs, ignore=shutil.ignore_patterns("__pycache__"))
    fragments = "|".join(sorted(path.stem for path in (ROOT / "doc_fragments").glob("*.py")))
    for path in root.rglob("*.py"):
        text = path.read_text()
        text = text.replace(
            "ansible.module_utils.runbook", f"ansible_collections.{namespace}.{name}.plugins.module_utils.runbook"
        )
        text = re.sub(
            rf"([ \[])(?=(?:{fragments})(?:\.\w+)?(?:$|[,\]]))", rf"\1{namespace}.{name}.", text, flags=re.MULTILINE
        )
        text = re.sub(r"\bM\((?=\w+\))", f"M({namespace}.{name}.", text)
        # In a collection each author has an account.
        path.write_text(re.sub(r"(author:\s+(?:- )?[\w ]+)$", r"\1 (@mental-scribe)", text, flags=re.MULTILINE))
    galaxy: dict[str, object] = {
        "namespace": namespace, "name": name, "version": version(), "readme": "README.md",
        "authors": ["Mental Scribe operations"], "description": "Modules of the Mental Scribe maintenance runbook",
        "dependencies": {}, "tags": ["database", "postgresql"],
    }  # fmt: skip
    (root / "galaxy.yml").write_text(yaml.safe_dump(galaxy))
    (root / "README.md").write_text(README)
    (root / "meta").mkdir()
    (root / "meta" / "runtime.yml").write_text(yaml.safe_dump({"requires_ansible": core_range()}))
    return root


def build(output: Path) -> Path:
    """Build the tarball into ``output``; its path.

    :raises subprocess.CalledProcessError: ansible-galaxy refused; what it said stands on standard error
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = assemble(Path(folder))
        command = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection", "build", str(root)]
        subprocess.run([*command, "--force", "--output-path", str(output)], check=True, stdout=subprocess.DEVNULL)
    return output / f"{NAMESPACE}-{NAME}-{version()}.tar.gz"


if __name__ == "__main__":
    print(build(ROOT / "dist"))
