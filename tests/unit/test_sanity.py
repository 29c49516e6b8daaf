"""``ansible-test sanity`` on our modules: Ansible's own opinion of code and documentation.

ansible-test looks at collections only, so it is given the one that tools/collection.py makes. Its tools are installed
by pip at the first run, into a folder of the project's cache; where that cannot be done, the test is shown as skipped,
with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from ansible.release import __version__ as ansible_version

from tools import collection as made

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
#: What our modules import, and what those import: ansible-test's own environment has none of it.
LIBRARIES = (
    "PIL", "pillow.libs", "_brotli*.so", "brotli.py", "_cffi_backend*.so", "boto3", "botocore", "cffi", "cryptography",
    "dateutil", "dns", "jinja2", "jmespath", "markupsafe", "psycopg2", "psycopg2_binary.libs", "s3transfer", "six.py",
    "urllib3", "zstandard",
)  # fmt: skip

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where ansible-test keeps its tools; in the project's cache, unless that has a space in its path."""
    cache = ROOT / ".cache" / "ansible-test"
    if " " in str(cache):
        # The first line of a script cannot name an interpreter with a space in its path.
        return tmp_path_factory.mktemp("home")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """The collection that tools/collection.py makes, as ansible-test wants it."""
    root = made.assemble(tmp_path_factory.mktemp("sanity"))
    modules = sorted((root / "plugins" / "modules").glob("*.py"))
    # A licence is asked of modules that others install.
    ignored = [f"plugins/modules/{path.name} validate-modules:missing-gplv3-license\n" for path in modules]
    (root / "tests" / "sanity").mkdir(parents=True)
    version = ".".join(ansible_version.split(".")[:2])
    (root / "tests" / "sanity" / f"ignore-{version}.txt").write_text("".join(ignored))
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


def ansible_test(collection: Path, home: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of ``ansible-test sanity`` under this Python.

    Skips, with the reason, where its tools cannot be installed.
    """
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))}
    words = ["ansible-test", "sanity", "--python", PYTHON, "--color", "no", *arguments]
    for _attempt in range(2):
        done = subprocess.run(
            words, cwd=collection, capture_output=True, text=True, check=False, timeout=800, env=os.environ | environ
        )
        out = done.stdout + done.stderr
        wanted = re.search(r"can be manually downloaded and saved to: (\S+)", out)
        if wanted is None:
            break
        # It wants to download pip's installer; this Python brings pip along.
        Path(wanted[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(wanted[1]).write_text("import ensurepip\nensurepip.bootstrap(default_pip=True)\n")
    reason = re.search(r".*(?:No matching distribution|name resolution|does not have pip available).*", out)
    if reason:
        pytest.skip(f"ansible-test cannot install its tools here: {reason[0].strip()}")
    return done.returncode, out


def validate_modules(collection: Path, home: Path) -> tuple[int, str]:
    """Run validate-modules, which imports the modules to see their options."""
    code, out = ansible_test(collection, home, "--test", "validate-modules", "--prime-venvs")
    assert code == 0, out
    libraries = home / "libraries"
    shutil.rmtree(libraries, ignore_errors=True)
    libraries.mkdir()
    for pattern in LIBRARIES:
        for path in Path(sysconfig.get_path("platlib")).glob(pattern):
            (libraries / path.name).symlink_to(path)
    folders = list((home / ".ansible/test/venv/sanity.validate-modules" / PYTHON).glob("*/lib/python*/site-packages"))
    assert folders, out
    for folder in folders:
        (folder / "libraries.pth").write_text(f"{libraries}\n")
    return ansible_test(collection, home, "--test", "validate-modules")


@pytest.mark.parametrize("test", ["compile", "no-get-exception", "replace-urlopen"])
def test_sanity(test, collection, home):
    code, out = ansible_test(collection, home, "--test", test)
    assert code == 0, out
    assert f'Running sanity test "{test}"' in out


def test_validate_modules(collection, home):
    code, out = validate_modules(collection, home)
    assert code == 0, out


def test_validate_modules_finds_a_wrong_document(collection, home):
    """It looks at our modules, and not at nothing."""
    path = collection / "plugins" / "modules" / "pg_lease.py"
    good = path.read_text()
    path.write_text(good.replace("options:\n", "options:\n  invented:\n    description: [No.]\n    type: str\n", 1))
    code, out = validate_modules(collection, home)
    path.write_text(good)
    assert code != 0
    assert "invented" in out
