"""Key and certificate of a server as generations: each a folder with both, and a symbolic link to the one in use.

::

    /etc/runbook-tls/app/
        current -> 20260104T020000Z
        20260104T020000Z/privkey.pem fullchain.pem
        20251106T020000Z/privkey.pem fullchain.pem      the one before
        next/privkey.pem request.pem names              what is being ordered

A server is configured with ``current/privkey.pem`` and ``current/fullchain.pem``. Key and certificate belong together,
and two files cannot be exchanged at once; a link can, by one rename. So whatever stops this at any moment, the server
finds a pair that fits, and the way back is the same rename.

It runs on the server, with Python's standard library and the program ``openssl``. The private key is made here and
never leaves.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import shutil
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CURRENT, NEXT = "current", "next"
KEY, CHAIN, REQUEST, NAMES = "privkey.pem", "fullchain.pem", "request.pem", "names"
#: What ``openssl req -newkey`` is told.
KEY_KINDS = {"EC": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "RSA": ["rsa:2048"]}
#: The generation in use, and the one before.
KEPT = 2
_OPENSSL_S = 60


def fingerprint(chain: str) -> str:
    """SHA-256 of the first certificate of a PEM text, hexadecimal.

    :raises RunbookError: it holds none
    """
    begin, end = chain.find("-----BEGIN CERTIFICATE-----"), chain.find("-----END CERTIFICATE-----")
    try:
        der = ssl.PEM_cert_to_DER_cert(chain[begin : end + len("-----END CERTIFICATE-----")])
    except ValueError:
        raise RunbookError("full_chain: it holds no certificate in PEM format; order it again.") from None
    return hashlib.sha256(der).hexdigest()


def run(command: Sequence[str], what: str, *, timeout_s: float) -> None:
    """Run a program of the server; nothing of what it prints but its last line is told.

    :raises RunbookError: it failed, or did not end in time
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise RunbookError(f"{what}: {command[0]} did not end within {timeout_s:g} s; see what it waits for.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunbookError(f"{what}: {command[0]} cannot be run ({reason}); correct the command.") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RunbookError(
            f"{what}: {command[0]} ended with {done.returncode} ({said[-1][:300] if said else 'it said nothing'})."
        )


@dataclass(frozen=True)
class Generations:
    """The generations in one folder."""

    folder: Path
    #: Group that may read the key; empty for its owner alone.
    group: str = ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out for the block; the lock ends with the process.

        :raises RunbookError: another one works on it, or the folder cannot be made
        """
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._cannot("made", error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise RunbookError(f"{self.folder}: another run works on this certificate; wait for its end.") from None
        finally:
            os.close(handle)

    def current(self) -> str:
        """The generation in use; empty where there is none.

        :raises RunbookError: what lies there was not put there by this
        """
        link = self.folder / CURRENT
        if not link.is_symlink():
            if link.exists():
                raise RunbookError(f"{link} is no symbolic link; move what lies there, or correct directory.")
            return ""
        return Path(link.readlink()).name

    def before(self) -> str:
        """The generation before the one in use; empty where there is none."""
        current = self.current()
        return max((name for name in self._complete() if name < current), default="")

    def chain(self, generation: str = CURRENT) -> str:
        """The certificate with its chain; empty where there is none.

        :raises RunbookError: it cannot be read
        """
        try:
            return (self.folder / generation / CHAIN).read_text()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeError) as error:
            raise self._cannot("read", error) from None

    def requested(self, names: Sequence[str], kind: str) -> str:
        """The request that an earlier run left for the same names and kind of key; empty where there is none."""
        place = self.folder / NEXT
        try:
            same = (place / NAMES).read_text() == _noted(names, kind)
            return (place / REQUEST).read_text() if same and (place / KEY).exists() else ""
        except OSError:
            return ""

    def request(self, names: Sequence[str], kind: str) -> str:
        """Make a key and a request for names; the request.

        :param names: host names and addresses, checked before
        :param kind: one of :data:`KEY_KINDS`
        :raises RunbookError: ``openssl`` is missing or failed, or nothing can be written
        """
        place = self.folder / NEXT
        alternatives = ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            (place / KEY).touch(mode=0o600)
            words = ["openssl", "req", "-new", "-newkey", *KEY_KINDS[kind], "-nodes", "-sha256", "-subj", "/",
                     "-addext", f"subjectAltName={alternatives}",
                     "-keyout", str(place / KEY), "-out", str(place / REQUEST)]  # fmt: skip
            run(words, "A key and a request could not be made", timeout_s=_OPENSSL_S)
            # Last: a request counts once it is whole.
            (place / NAMES).write_text(_noted(names, kind))
            return (place / REQUEST).read_text()
        except OSError as error:
            raise self._cannot("written to", error) from None

    def add(self, chain: str) -> str:
        """Make a generation of what was requested and the chain that was issued for it; it is not in use yet.

        :raises RunbookError: nothing was requested, the two do not belong together, or nothing can be written
        """
        place = self.folder / NEXT
        if not (place / KEY).exists():
            raise RunbookError(f"{place}: there is no key, so nothing was requested; run the playbook from its begin.")
        try:
            _write(place / CHAIN, chain)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(place / CHAIN, place / KEY)
            except ssl.SSLError as error:
                why = (error.reason or type(error).__name__).lower().replace("_", " ")
                raise RunbookError(
                    f"full_chain: it does not belong to the key in {place} ({why}); run the playbook from its begin."
                ) from None
            for name in (REQUEST, NAMES):
                (place / name).unlink(missing_ok=True)
            self._open_to_group(place)
            for name in self._complete():
                if name > self.current():  # a run was stopped before it was used
                    self.remove(name)
            # The newest by its name too, whatever the clock says.
            made = max([f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", *(f"{name}0" for name in self._complete())])
            place.rename(self.folder / made)
            _sync(self.folder)
        except OSError as error:
            raise self._cannot("written to", error) from None
        return made

    def use(self, generation: str) -> None:
        """Let the link name a generation, by one rename.

        :raises RunbookError: nothing can be written
        """
        fresh = self.folder / f".{CURRENT}"
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(generation)
            fresh.replace(self.folder / CURRENT)
            _sync(self.folder)
        except OSError as error:
            raise self._cannot("written to", error) from None

    def unlink(self) -> None:
        """Name no generation, as before the first one."""
        (self.folder / CURRENT).unlink(missing_ok=True)

    def remove(self, generation: str) -> None:
        """Delete a generation that is not in use."""
        if generation != self.current():
            shutil.rmtree(self.folder / generation, ignore_errors=True)

    def clean(self) -> list[str]:
        """Delete all but the one in use and the one before; what was deleted."""
        current = self.current()
        kept = sorted(name for name in self._complete() if name <= current)[-KEPT:]
        old = [name for name in self._complete() if name not in kept]
        for name in old:
            self.remove(name)
        return old

    def _complete(self) -> list[str]:
        return sorted(
            each.name for each in self.folder.iterdir() if not each.is_symlink() and each.name != NEXT
            and (each / KEY).exists() and (each / CHAIN).exists()
        )  # fmt: skip

    def _open_to_group(self, place: Path) -> None:
        if self.group:
            try:
                for each in (place, place / KEY):
                    shutil.chown(each, group=self.group)
            except LookupError:
                raise RunbookError(f"key_group: there is no group {self.group} on this server; correct it.") from None
        (place / KEY).chmod(0o640 if self.group else 0o600)
        (place / CHAIN).chmod(0o644)
        place.chmod(0o755)

    def _cannot(self, what: str, error: Exception) -> RunbookError:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return RunbookError(
            f"directory: {self.folder} cannot be {what} ({reason}); let this user own it, or set ansible_become."
        )


def _noted(names: Sequence[str], kind: str) -> str:
    return "\n".join([kind, *sorted(names)])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
