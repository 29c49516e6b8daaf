"""Chromium and the programs of tools/web that look through it: Lighthouse, and turns of a flow by Puppeteer.

Chromium is started here and not by them, so that whatever happens to them or to this process, it ends too, and its own
end is known for what it is. It gets a fresh profile, which is gone afterwards, and no variable of this process that
could hold a secret.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import child_process, folders
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.clock import Clock

#: Where Chromium writes how it is reached.
_PORT_FILE = "DevToolsActivePort"
#: It is there within two seconds on an idle machine.
_START_S = 60
#: What a program needs to run at all.
_INHERITED = ("PATH", "TMPDIR", "LANG", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
#: The way out of a network that has one alone.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_LIGHTHOUSE = "node_modules/lighthouse/cli/index.js"
_TURNS = "heap_turns.mjs"
#: Of the browser's own noise nothing is measured: no updates, no extensions, no first steps.
_QUIET = (
    "--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check",
    "--disable-extensions", "--disable-component-update", "--disable-background-networking", "--disable-sync",
    "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars", "--use-mock-keychain", "--password-store=basic",
)  # fmt: skip


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of modules that look through Chromium; documented in ``doc_fragments/runbook_browser.py``."""
    return {
        "tools_path": {"type": "path", "required": True},
        "node": {"type": "str", "default": "node"},
        "chromium": {"type": "str", "default": "chromium"},
        "ca_cert": {"type": "path"},
        "deadline_s": {"type": "int", "default": 1800},
    }


BOUNDS = {"deadline_s": (10, 14_400)}


class Tools:
    """The programs, where ``python -m tools.web_tools`` put them.

    :raises RunbookError: ``unknown``, one is not there
    """

    def __init__(self, params: Mapping[str, Any], clock: Clock) -> None:
        self._clock = clock
        self._folder = Path(params["tools_path"])
        for name in (_LIGHTHOUSE, _TURNS):
            if not (self._folder / name).is_file():
                raise _unknown(
                    f"tools_path: {self._folder} has no {name}; run python -m tools.web_tools {self._folder}, which "
                    "gets it from npm"
                )
        self._node, self._chromium = (
            _found(option, params[option], package)
            for option, package in (("node", "nodejs"), ("chromium", "chromium"))
        )
        self._authorities = _certificates(params["ca_cert"]) if params["ca_cert"] else []
        self._certutil = _found("ca_cert", "certutil", "libnss3-tools") if self._authorities else ""

    def audit(self, url: str, preset: str) -> dict[str, Any]:
        """One look of Lighthouse at a page, by a Chromium of its own.

        :param preset: ``mobile`` or ``desktop``
        :returns: its report
        :raises RunbookError: ``unknown``, there is none
        """
        words = [
            str(self._folder / _LIGHTHOUSE), url, "--output=json", "--quiet", "--only-categories=performance",
            "--no-enable-error-reporting", *(["--preset=desktop"] if preset == "desktop" else []),
        ]  # fmt: skip
        with self._browser() as browser:
            report = browser.home / "report.json"
            done = self._node_of(browser, [*words, f"--port={browser.port}", f"--output-path={report}"], "Lighthouse")
            try:
                found = json.loads(report.read_text())
            except (OSError, ValueError):
                raise _unknown(f"Lighthouse wrote no report of {url}{_last_words(done)}") from None
        return found if isinstance(found, dict) else {}

    def turns(self, flow: Mapping[str, Any]) -> dict[str, Any]:
        """Go through a flow again and again, and measure the heap after each turn.

        :param flow: as tools/web/heap_turns.mjs takes it
        :raises RunbookError: a step finds nothing, with the code ``step``; or ``unknown``
        """
        with self._browser() as browser:
            asked = browser.home / "flow.json"
            asked.write_text(json.dumps(dict(flow) | {"port": browser.port, "timeout_ms": 30_000}))
            done = self._node_of(browser, [str(self._folder / _TURNS), str(asked)], "Puppeteer")
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise _unknown(f"{flow['name']}: nothing was measured{_last_words(done)}") from None
        if not isinstance(found, dict):
            raise _unknown(f"{flow['name']}: nothing was measured")
        if found.get("error"):
            raise RunbookError(f"{flow['name']}: {without_secrets(str(found['error']))}", code="step")
        return found

    def _node_of(self, browser: _Browser, words: Sequence[str], name: str) -> child_process.Finished:
        home = browser.home
        done = child_process.run(
            [self._node, *words], env=_environment(home), cwd=self._folder, timeout_s=max(1.0, self._clock.left_s())
        )
        browser.require_alive()
        if done.code is None:
            raise _unknown(f"{name} did not end in the time that was left, and was stopped; give more in deadline_s")
        return done

    @contextmanager
    def _browser(self) -> Iterator[_Browser]:
        if self._clock.left_s() < 1:
            raise _unknown("there was no time left for it; give more in deadline_s")
        with folders.temporary("runbook-chromium-") as home:
            browser = _Browser(self._chromium, home)
            try:
                if self._authorities:
                    self._trust(home)
                browser.start(min(_START_S, self._clock.left_s()))
                yield browser
            finally:
                browser.end()

    def _trust(self, home: Path) -> None:
        """Let a Chromium of this home trust the authorities: it asks the home's NSS database for them."""
        database = home / ".pki/nssdb"
        database.mkdir(parents=True, mode=0o700)
        words = [self._certutil, "-d", f"sql:{database}"]
        for number, each in enumerate(self._authorities):
            file = home / "ca.pem"
            file.write_text(each)
            done = child_process.run(
                [*words, "-A", "-n", f"ca{number}", "-t", "C,,", "-i", str(file)], env=_environment(home), cwd=home,
                timeout_s=_START_S,
            )  # fmt: skip
            if done.code != 0:
                raise _unknown(f"ca_cert: certutil did not take one of its certificates{_last_words(done)}")


class _Browser:
    """A Chromium without a window, on loopback."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self.home, self.profile = home, home / "profile"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait_s: float) -> None:
        """Start it, and wait until it listens.

        :raises RunbookError: ``unknown``, it does not
        """
        # Its own sandbox needs a user who is not root.
        own = ["--no-sandbox"] if os.geteuid() == 0 else []
        words = [self._program, *_QUIET, *own, f"--user-data-dir={self.profile}", "about:blank"]
        log = self.home / "chromium.log"
        try:
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    child_process.group_ends_with_module(words), env=_environment(self.home),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise _unknown(f"chromium: {self._program} cannot be started: {error.strerror}") from None
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            with suppress(OSError, ValueError, IndexError):
                self.port = int((self.profile / _PORT_FILE).read_text().splitlines()[0])
                return
            self.require_alive(log)
            time.sleep(0.05)
        raise _unknown(f"chromium: {self._program} did not listen within {wait_s:.0f} s")

    def require_alive(self, log: Path | None = None) -> None:
        """See that it did not end by itself.

        :raises RunbookError: ``unknown``, it did
        """
        code = self._process.poll() if self._process else None
        if code is None:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        # The shell that ends it with this process tells a signal so.
        how = f"was killed by {signal.Signals(code - 128).name}" if 128 < code < 160 else how
        lines = log.read_text(errors="replace").strip().splitlines() if log and log.exists() else []
        raise _unknown(f"Chromium {how} while it was needed{f': {lines[-1][:200]}' if lines else ''}")

    def end(self) -> None:
        """End it and all that it started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _environment(home: Path) -> dict[str, str]:
    own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
    # A proxy with a password stays out: Chromium would not use it, and the other programs might tell it.
    ways = {name: value for name in _PROXIES if (value := os.environ.get(name)) and "@" not in value}
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | ways | own


def _certificates(path: str) -> list[str]:
    try:
        found = _PEM.findall(Path(path).read_text(errors="replace"))
    except OSError as error:
        raise RunbookError(f"ca_cert: {path} cannot be read ({error.strerror}); give a file in PEM.") from None
    if not found:
        raise RunbookError(f"ca_cert: {path} has no certificate; give a file in PEM.")
    return found


def _found(option: str, program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise _unknown(f"{option}: {program} is not there; install it (on Debian: apt-get install {package})")
    return found


def _last_words(done: child_process.Finished) -> str:
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return f": {without_secrets(lines[-1])[:300]}" if lines else ""


def _unknown(message: str) -> RunbookError:
    return RunbookError(f"{message}.", status=Status.UNKNOWN, code="not_measured")
