"""Makes ``.venv``: pinned packages, Ansible collections, bytecode. Run by ``make setup`` and ``make setup-test``.

Any Python 3 may run this file; it looks for a suitable one for the virtual environment itself. A second call finds the
stamp of the first and ends at once. A call that was interrupted left no stamp, and the next one starts over.

Standard library only, and nothing newer than Python 3.8 in it, so that an old ``python3`` gets a clear sentence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
NEWEST = (3, 14)

#: The release of the package ``ansible`` that was made for an ansible-core, by its minor version: it holds the
#: collections. Raise it together with ansible-core in requirements.txt.
ANSIBLE_WHEEL = {"2.19": "12.3.0", "2.21": "14.5.0"}


class SetupError(Exception):
    """One sentence for whoever typed ``make``."""


def say(text: str) -> None:
    """Tell what goes on."""
    print(text, flush=True)


def run(words: list[str], what: str) -> None:
    """Run a program whose output people see; a failure is one sentence below that output."""
    done = subprocess.run(words, cwd=str(ROOT), check=False)
    if done.returncode != 0:
        raise SetupError(f"{what} failed with exit code {done.returncode}; the reason stands above.")


def version_of(python: str) -> tuple[int, int] | None:
    """Major and minor version of an interpreter; None where it does not start."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=30)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def find_python() -> str:
    """The interpreter for the virtual environment: ``PYTHON`` if set, else the one that runs this, else the newest."""
    explicit = os.environ.get("PYTHON")
    names = [explicit] if explicit else [sys.executable]
    if not explicit:
        names += [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)] + ["python3"]
    seen = []
    for name in names:
        path = shutil.which(name)
        version = version_of(path) if path else None
        if path and version and OLDEST <= version <= NEWEST:
            return path
        if version:
            seen.append(f"{name} is {version[0]}.{version[1]}")
        elif explicit:
            seen.append(f"{name} does not start")
    wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    raise SetupError(
        f"No suitable Python was found ({', '.join(dict.fromkeys(seen)) or 'none at all'}); "
        f"install Python {wanted}, or name one: make setup PYTHON=/path/to/python3.12"
    )


def requirement_files(test: bool) -> list[Path]:
    """The pinned requirements, the larger set containing the smaller one."""
    return [ROOT / "requirements.txt"] + ([ROOT / "requirements-test.txt"] if test else [])


def fingerprint(test: bool) -> str:
    """Names everything that this environment is made from."""
    digest = hashlib.sha256()
    for path in [
        *requirement_files(test),
        ROOT / "requirements.yml",
        ROOT / "requirements-awx.yml",
        Path(__file__).resolve(),
    ]:
        digest.update(path.read_bytes())
    digest.update(os.environ.get("PYTHON", "").encode())
    return digest.hexdigest()


def stamp(test: bool) -> Path:
    """File that says that the environment is complete."""
    return VENV / (".setup-test.json" if test else ".setup.json")


def read_stamp(test: bool) -> dict[str, str]:
    """What the last complete call left; empty where there was none.

    Empty also where the project was elsewhere then: the programs of an environment hold their own path.
    """
    try:
        found = json.loads(stamp(test).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("root") == str(ROOT) else {}


def is_ready(test: bool) -> bool:
    """Whether an earlier call made just this; a call for the tests also made what ``make setup`` makes."""
    if not PYTHON.exists():
        return False
    return any(read_stamp(kind).get("fingerprint") == fingerprint(kind) for kind in {test, True})


def make_venv(uv: str | None) -> None:
    """Make the virtual environment, with pip in it, unless a complete one of a suitable Python is there."""
    complete = read_stamp(False) or read_stamp(True)
    version = version_of(str(PYTHON))
    if complete and version and OLDEST <= version <= NEWEST and not os.environ.get("PYTHON"):
        return
    # First, since a half-made one may stand at the head of PATH, and would be made from itself.
    shutil.rmtree(str(VENV), ignore_errors=True)
    python = find_python()
    say(f"Making {VENV} with {python}")
    if uv:
        run([uv, "venv", "--quiet", "--seed", "--python", python, str(VENV)], "Making the virtual environment")
        return
    if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode != 0:
        major, minor = version_of(python) or OLDEST
        raise SetupError(
            f"{python} cannot make virtual environments, because its module ensurepip is missing; "
            f"install it (on Debian and Ubuntu: apt-get install python{major}.{minor}-venv), or install uv."
        )
    run([python, "-m", "venv", str(VENV)], "Making the virtual environment")


def install_packages(uv: str | None, test: bool) -> None:
    """Install the pinned packages, and nothing that they ask for beside: every dependency is pinned too."""
    files = [word for path in requirement_files(test) for word in ("-r", str(path))]
    say(f"Installing {' and '.join(path.name for path in requirement_files(test))} with {'uv' if uv else 'pip'}")
    if uv:
        run(
            [uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", str(PYTHON), *files],
            "Installing packages",
        )
    else:
        pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        run([*pip, *files], "Installing packages")


def wanted_collections(file: str = "requirements.yml") -> list[str]:
    """Names in a file of requirements; read by a pattern, because this runs before PyYAML is there."""
    text = (ROOT / file).read_text()
    return re.findall(r"^\s*-\s*name:\s*([a-z0-9_]+\.[a-z0-9_]+)\s*$", text, re.MULTILINE)


def ask_venv(code: str) -> str:
    """What a line of Python prints in the virtual environment."""
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def install_collections() -> None:
    """Bring the collections that requirements.yml names.

    They are cut from the wheel of the package ``ansible``, because that comes from the same index as everything else,
    at a version made for this ansible-core. Ansible Galaxy is a second host to depend on and no faster; it is asked
    when the wheel cannot be had.
    """
    site = Path(ask_venv("import sysconfig; print(sysconfig.get_paths()['purelib'])"))
    core = ask_venv("import ansible.release; print(ansible.release.__version__)")
    release = ANSIBLE_WHEEL.get(".".join(core.split(".")[:2]))
    names = wanted_collections()
    say(f"Bringing the collections {', '.join(names)}")
    with tempfile.TemporaryDirectory(dir=str(VENV), prefix="wheel-") as folder:
        if release:
            words = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
            words += ["--only-binary=:all:", "--no-cache-dir", "--dest", folder, f"ansible=={release}"]
            subprocess.run(words, cwd=str(ROOT), check=False)
        wheel = next(iter(Path(folder).glob("ansible-*.whl")), None)
        if wheel is not None:
            extract(wheel, names, site)
            optional = wanted_collections("requirements-awx.yml")
            if not extract(wheel, optional, site, needed=False):
                say(
                    f"Left out, because {wheel.name} has it not: {', '.join(optional)}; only playbooks/awx.yml needs it"
                )
            run([str(PYTHON), "-m", "compileall", "-q", str(site / "ansible_collections")], "Compiling the collections")
            return
    say("The wheel with the collections could not be had; asking Ansible Galaxy")
    galaxy = [str(VENV / "bin" / "ansible-galaxy"), "collection", "install", "--timeout=20", "-r", "requirements.yml"]
    run([*galaxy, "-p", str(site)], "Bringing the collections, from the package index and from Galaxy alike,")


def extract(wheel: Path, names: list[str], site: Path, *, needed: bool = True) -> bool:
    """Unpack the collections ``names`` from ``wheel`` below ``site``; nothing else of it is wanted.

    :param needed: a collection that the wheel does not have is an error
    :return: whether it has all of them
    """
    with zipfile.ZipFile(str(wheel)) as archive:
        members = archive.namelist()
        for name in names:
            prefix = f"ansible_collections/{name.replace('.', '/')}/"
            ours = [member for member in members if member.startswith(prefix)]
            if not ours and not needed:
                return False
            if not ours:
                raise SetupError(f"{wheel.name} holds no collection {name}; correct its name in requirements.yml.")
            shutil.rmtree(str(site / prefix), ignore_errors=True)
            archive.extractall(str(site), ours)
    return True


def setup(test: bool) -> None:
    """Make what is missing."""
    if is_ready(test):
        return
    # An inherited setting that would make each start of Ansible twice as slow; and packages of another Python.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        os.environ.pop(name, None)
    home = os.environ.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        os.environ["HOME"] = str(ROOT / ".cache" / "home")
        Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
    uv = None if os.environ.get("UV") == "no" else shutil.which(os.environ.get("UV") or "uv")
    make_venv(uv)
    for kind in (False, True):
        stamp(kind).unlink(missing_ok=True)
    install_packages(uv, test)
    install_collections()
    stamp(test).write_text(json.dumps({"fingerprint": fingerprint(test), "root": str(ROOT)}) + "\n")
    say(f"{VENV} is ready")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Make the virtual environment .venv.")
    parser.add_argument("--test", action="store_true", help="with what the tests need")
    try:
        setup(parser.parse_args().test)
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("setup: interrupted; the next call starts over.\n")
        return 130
    except PermissionError as error:
        sys.stderr.write(f"setup: {error.filename} cannot be written; run this as the owner of {ROOT}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
