"""A Debian of its own for tests: the real apt-get and dpkg, on a root and on archives in a folder.

Nothing of the machine is touched, and no container is needed. Packages hold one file, or what a test puts into them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The archives: their label and suite.
ARCHIVES = {"main": ("Debian", "stable"), "security": ("Debian-Security", "stable-security")}
MACHINE_ID = "0123456789abcdef0123456789abcdef"
_NEEDED = ("apt-get", "dpkg-deb", "dpkg", "apt-mark", "dpkg-query")


class Debian:
    """A root with archives; ``environ`` lets apt-get, dpkg and needrestart of a playbook work on it."""

    def __init__(self, folder: Path) -> None:
        missing = [program for program in _NEEDED if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)}: not installed, so no server was updated (Debian's package apt)")
        self.folder, self.root, self.bin = folder, folder / "root", folder / "bin"
        for path in (
            "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/dpkg/info", "run", "tmp",
            "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/lib/apt/lists/partial", "var/log/apt", "usr/bin",
            "var/cache/apt/archives/partial",
        ):  # fmt: skip
            (self.root / path).mkdir(parents=True)
        for name in ("status", "available"):
            (self.root / "var/lib/dpkg" / name).touch()
        self.bin.mkdir()
        options = "".join(f' "{each}";' for each in self._dpkg_options())
        self.config = folder / "apt.conf"
        self.config.write_text(
            f'Dir "{self.root}";\nDir::Bin::methods "/usr/lib/apt/methods";\nDir::Bin::dpkg "{shutil.which("dpkg")}";\n'
            f'Dir::State::status "{self.root}/var/lib/dpkg/status";\nDPkg::Options {{{options} }};\n'
            'APT::Architecture "amd64";\nAPT::Sandbox::User "root";\n'
        )
        sources = []
        for name in ARCHIVES:
            (folder / name).mkdir()
            sources.append(f"deb [trusted=yes] file:{folder / name} ./\n")
            self.publish(name)
        (self.root / "etc/apt/sources.list").write_text("".join(sources))
        self.needrestart("NEEDRESTART-VER: 3.6", "NEEDRESTART-KSTA: 1")
        # Another machine than this one.
        cat = self.bin / "cat"
        cat.write_text(
            f'#!/bin/sh\n[ "$1" = /etc/machine-id ] && exec echo {MACHINE_ID}\nexec {shutil.which("cat")} "$@"\n'
        )
        cat.chmod(0o755)
        # Other tests make such folders at the same time.
        mktemp = self.bin / "mktemp"
        mktemp.write_text(f'#!/bin/sh\n{shutil.which("mktemp")} "$@" | tee -a {folder}/made\n')
        mktemp.chmod(0o755)
        # These know no configuration that names another root.
        self._wrapper("dpkg", *self._dpkg_options())
        self._wrapper("dpkg-query", f"--admindir={self.root}/var/lib/dpkg")

    @property
    def environ(self) -> dict[str, str]:
        """Variables of the environment."""
        return {"APT_CONFIG": str(self.config), "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def folders(self) -> list[Path]:
        """The working folders that were made on it."""
        return [Path(line) for line in (self.folder / "made").read_text().split()]

    def package(
        self, archive: str, name: str, version: str, depends: str = "", files: Mapping[str, str] | None = None,
        **scripts: str,
    ) -> Path:  # fmt: skip
        """Build a package and put it into an archive.

        :param files: by their paths; those below ``etc`` are configuration files
        :param scripts: maintainer scripts, such as ``postinst``
        """
        tree = self.folder / "build" / f"{name}_{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        held = {f"usr/share/{name}/version": version} | dict(files or {})
        for path, text in held.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        needs = f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.com>\n{needs}"
            "Description: test\n"
        )
        kept = [f"/{path}\n" for path in held if path.startswith("etc/")]
        if kept:
            (tree / "DEBIAN/conffiles").write_text("".join(kept))
        for script, text in scripts.items():
            (tree / "DEBIAN" / script).write_text(f"#!/bin/sh\n{text}\n")
            (tree / "DEBIAN" / script).chmod(0o755)
        made = self.folder / archive / f"{name}_{version}_all.deb"
        self._run("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", str(tree), str(made))
        self.publish(archive)
        return made

    def publish(self, archive: str) -> None:
        """Write the archive's lists."""
        label, suite = ARCHIVES[archive]
        folder = self.folder / archive
        entries = []
        for path in sorted(folder.glob("*.deb")):
            content = path.read_bytes()
            entries.append(
                f"{self._run('dpkg-deb', '-f', str(path)).strip()}\nFilename: ./{path.name}\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n"
            )
        packages = "".join(entries).encode()
        (folder / "Packages").write_bytes(packages)
        (folder / "Release").write_text(
            f"Origin: Debian\nLabel: {label}\nSuite: {suite}\nCodename: bookworm\nDate: {formatdate(usegmt=True)}\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
        )

    def install(self, *packages: Path) -> None:
        """Have them installed already."""
        self._run("dpkg", *self._dpkg_options(), "-i", *map(str, packages))

    def installed(self) -> dict[str, str]:
        """Versions by package."""
        listed = self._run(
            "dpkg-query",
            f"--admindir={self.root}/var/lib/dpkg",
            "-W",
            "-f",
            "${Package} ${Version} ${db:Status-Abbrev}\n",
        )
        return {line.split()[0]: line.split()[1] for line in listed.splitlines() if line.split()[2:] == ["ii"]}

    def hold(self, package: str) -> None:
        """Put a package on hold."""
        self._run("apt-mark", "hold", package)

    def needrestart(self, *lines: str) -> None:
        """What needrestart says from now on; asked to restart, it does, and says nothing of services any more."""
        text = "\n".join(lines)
        rest = "\n".join(line for line in lines if not line.startswith("NEEDRESTART-SVC"))
        said = self.folder / "needrestart"
        said.write_text(text)
        path = self.bin / "needrestart"
        path.write_text(f"#!/bin/sh\ncase \"$*\" in *'-r a'*) cat > {said} <<'X'\n{rest}\nX\n;; *) cat {said};; esac\n")
        path.chmod(0o755)

    def _dpkg_options(self) -> list[str]:
        return [f"--root={self.root}", "--force-not-root", "--force-script-chrootless",
                f"--log={self.root}/var/log/dpkg.log"]  # fmt: skip

    def _wrapper(self, program: str, *options: str) -> None:
        path = self.bin / program
        path.write_text(f'#!/bin/sh\nexec {shutil.which(program)} {" ".join(options)} "$@"\n')
        path.chmod(0o755)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False,
            env=os.environ | {"APT_CONFIG": str(self.config), "LC_ALL": "C"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
