"""The services around a change as processes of their own on loopback.

nginx, Prometheus and Alertmanager are the real programs, where this machine has them. What a company has outside, such
as a ticket system, is played by the fakes of the tests, which one program serves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from ansible.module_utils.runbook.drivers import process, workspace
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.sandbox.sandbox import choose_port, end_process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.sandbox.demo_alerts import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.sandbox.sandbox import Home

#: Each is there within two seconds on an idle machine.
START_TIMEOUT_S = 60
#: A port can be taken between the moment it was found free and the moment the program asks for it.
START_ATTEMPTS = 3
LOG = "server.log"
#: What they have in their folder.
FOLDERS = ("outside", "alertmanager", "nginx", "prometheus")
#: Where to look at them, a line each.
ADDRESSES = "addresses.txt"
#: What the note of their state says; the inventory uses them where it says ``started``.
STARTED, STARTING, STOPPED = "started", "starting", "stopped"
#: Where the files lie that docs/howto/nginx/server.conf names, for want of the sandbox's own folders.
_FLAGS, _PAGES = "/var/lib/runbook/maintenance/", "/usr/local/share/runbook"
#: Debian keeps daemons where users do not look, Homebrew elsewhere.
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
#: What a program that outlives the run gets of its environment: no token or password of whoever started it.
_INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "TZ")


_S = TypeVar("_S", bound="Service")


@dataclass(frozen=True)
class Service:
    """A program that serves from a folder of its own; what is written down of it is its port and its process."""

    #: What people call it.
    name: ClassVar[str]
    #: Names of its program, and the Debian package that has it.
    programs: ClassVar[tuple[str, ...]]
    package: ClassVar[str]
    #: What a change does without where it is missing.
    loss: ClassVar[str]
    #: What answers with 200 as soon as it is ready.
    ready: ClassVar[str] = "/-/ready"

    folder: Path
    #: The port of the last time, 0 for none.
    port: int = 0
    #: What ``str()`` of a :class:`process.Process` gave; empty for none.
    process: str = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def program(self) -> str | None:
        """Where its program is; None where it is not installed."""
        path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
        return next(filter(None, (shutil.which(name, path=path) for name in self.programs)), None)

    def missing(self) -> str:
        """Why it cannot be started, in one sentence; empty where it can."""
        if self.program():
            return ""
        return f"{self.name} is not installed, so there is no {self.loss}; on Debian: apt-get install {self.package}."

    def files(self) -> dict[str, str]:
        """Its configuration: names below its folder, and their text."""
        raise NotImplementedError

    def words(self, program: str) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What it gets beside the few settings that each program needs."""
        return {}

    def with_state(self, state: Mapping[str, Any]) -> Self:
        """The same service as it was left by an earlier run."""
        port, noted = state.get("port"), state.get("process")
        return replace(self, port=port if isinstance(port, int) else 0, process=noted if isinstance(noted, str) else "")

    def state(self) -> dict[str, Any]:
        """What :meth:`with_state` reads."""
        return {"port": self.port, "process": self.process}

    def is_running(self) -> bool:
        """Whether its process lives, and no other one that inherited its number."""
        found = process.parse(self.process)
        return found is not None and found.life() == "alive"

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            with build_opener(ProxyHandler({})).open(self.url + self.ready, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError, ValueError):
            return False

    def stays(self) -> bool:
        """Whether it runs and answers, and would be configured in the same way today."""
        written = all(self._is_written(name, text) for name, text in self.files().items())
        return written and self.is_running() and self.answers()

    def start(self, note: Callable[[Self], None] = lambda _: None) -> Self:
        """Start it, or start it again, and wait until it answers.

        :param note: writes down each process that was started, before it answers
        :raises RunbookError: it is not installed, it ended, or it gave no answer in time
        """
        program = self.program()
        if program is None:
            raise RunbookError(self.missing())
        self.stop()
        for attempt in range(1, START_ATTEMPTS + 1):
            chosen = self._on_a_free_port()
            for name, text in chosen.files().items():
                workspace.write_text(chosen.folder / name, text)
            started = chosen.launch(program)
            note(started)
            said = started.wait()
            if not said:
                return started
            started.stop()
            if attempt == START_ATTEMPTS or "address already in use" not in said.lower():
                break
        raise RunbookError(f"{self.name} {said}", log=str(self.folder / LOG))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, if it runs; what it keeps stays."""
        found = process.parse(self.process)
        if found is not None and self.is_running():
            end_process(found.pid, number, still_there=self.is_running)

    def _on_a_free_port(self) -> Self:
        return replace(self, port=choose_port(None, self.port or None))

    def _is_written(self, name: str, text: str) -> bool:
        try:
            return (self.folder / name).read_text() == text
        except OSError:
            return False

    def launch(self, program: str) -> Self:
        """Start the process in a session of its own, so that it outlives Ansible."""
        closed(self.folder)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        with (self.folder / LOG).open("w") as out:
            child = subprocess.Popen(
                self.words(program),
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                cwd=self.folder, env=inherited | self.environment(),
            )  # fmt: skip
        found = process.find(child.pid)
        return replace(self, process=str(found) if found else "")

    def wait(self) -> str:
        """Wait until it answers; why it does not, or an empty text."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running() and time.monotonic() < deadline:
            if self.answers():
                return ""
            time.sleep(0.05)
        why = f"gave no answer within {START_TIMEOUT_S} s" if self.is_running() else "ended"
        lines = (self.folder / LOG).read_text(errors="replace").strip().splitlines()
        return f"{why}: {' '.join(lines[-3:])[-500:] or 'it said nothing'}"


@dataclass(frozen=True)
class Nginx(Service):
    """An application of one page behind nginx, with the maintenance mode that docs/howto/nginx ships."""

    name: ClassVar[str] = "nginx"
    programs: ClassVar[tuple[str, ...]] = ("nginx",)
    package: ClassVar[str] = "nginx-light"
    loss: ClassVar[str] = "maintenance mode and no page to look at"
    ready: ClassVar[str] = "/healthz"

    #: Folder with http.conf, server.conf and the maintenance page.
    shipped: Path = Path()

    @property
    def flags(self) -> Path:
        """Folder in which it looks for the flag files of maintenance mode."""
        return self.folder / "flags"

    @property
    def access_log(self) -> Path:
        """What was asked of it, a line each, with its time and its status."""
        return self.folder / "access.log"

    def files(self) -> dict[str, str]:
        """As an ordinary user runs nginx; the shipped files with the sandbox's folders in them."""
        server = (self.shipped / "server.conf").read_text()
        # In quotes, since a folder's name may hold a space.
        server = re.sub(rf"{_FLAGS}(\S+)\)", rf'"{self.flags}/\1")', server).replace(_PAGES, f'"{self.shipped}"')
        temporary = "".join(
            f'    {kind}_temp_path "{self.folder}/temporary/{kind}";\n'
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return {
            "server.conf": server,
            "http.conf": (self.shipped / "http.conf").read_text(),
            "nginx.conf": f"""\
daemon off;
master_process off;
pid "{self.folder}/nginx.pid";
error_log stderr;
events {{ worker_connections 64; }}
http {{
    log_format timed "$time_iso8601 $status $request";
    access_log "{self.access_log}" timed;
{temporary}    include "{self.folder}/http.conf";
    server {{
        listen 127.0.0.1:{self.port};
        include "{self.folder}/server.conf";
        location / {{
            default_type text/html;
            return 200 "<!doctype html><title>Mental Scribe</title><h1>Welcome to Mental Scribe</h1>";
        }}
        location = /healthz {{ default_type text/plain; return 200 "ok"; }}
        location = /metrics {{ access_log off; default_type text/plain; return 200 "mental_scribe_answers 1\\n"; }}
    }}
}}
""",
        }

    def words(self, program: str) -> list[str]:
        """In the foreground."""
        closed(self.flags)
        closed(self.folder / "temporary")
        return [program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]


@dataclass(frozen=True)
class Alertmanager(Service):
    """Alertmanager, which mails its alerts where there is a mail server."""

    name: ClassVar[str] = "Alertmanager"
    programs: ClassVar[tuple[str, ...]] = ("prometheus-alertmanager", "alertmanager")
    package: ClassVar[str] = "prometheus-alertmanager"
    loss: ClassVar[str] = "silence"

    #: Port of a mail server on loopback, 0 for none.
    mail_port: int = 0
    #: Address of a webhook, and of PagerDuty's Events API with its key; empty for none.
    webhook_url: str = ""
    pagerduty: tuple[str, str] = ("", "")

    def files(self) -> dict[str, str]:
        """Who is mailed all but what is urgent, which goes to PagerDuty, and what only informs, to a webhook."""
        mail = {
            "to": "on-call@example.com", "from": "alerts@example.com", "smarthost": f"127.0.0.1:{self.mail_port}",
            "require_tls": False, "html": "", "text": "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ end }}",
            "headers": {"Subject": "[{{ .Status }}] {{ .CommonLabels.alertname }}"},
        }  # fmt: skip
        receivers: list[dict[str, Any]] = [
            {"name": "on-call"} | ({"email_configs": [mail]} if self.mail_port else {}),
        ]
        routes = []
        url, key = self.pagerduty
        if url:
            pager = {"url": f"{url}/v2/enqueue", "routing_key": key}
            receivers.append({"name": "pager", "pagerduty_configs": [pager]})
            routes.append({"receiver": "pager", "matchers": ['severity="page"']})
        if self.webhook_url:
            receivers.append({"name": "team", "webhook_configs": [{"url": self.webhook_url}]})
            routes.append({"receiver": "team", "matchers": ['severity="info"']})
        route = {"receiver": "on-call", "group_wait": "0s", "group_interval": "5s", "group_by": ["alertname"]}
        return {"alertmanager.yml": _as_yaml({"route": route | {"routes": routes}, "receivers": receivers})}

    def words(self, program: str) -> list[str]:
        """Alone, without a cluster."""
        return [
            program,
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]


@dataclass(frozen=True)
class Prometheus(Service):
    """Prometheus, which watches itself and the application, and tells Alertmanager."""

    name: ClassVar[str] = "Prometheus"
    programs: ClassVar[tuple[str, ...]] = ("prometheus",)
    package: ClassVar[str] = "prometheus"
    loss: ClassVar[str] = "metric to watch"

    #: Ports of the application and of Alertmanager, 0 for none.
    application_port: int = 0
    alertmanager_port: int = 0
    #: Samples of the past that it begins with, in the form of OpenMetrics.
    history: str = ""
    #: Its rules beside the one on the application.
    rules: tuple[Mapping[str, Any], ...] = ()

    def launch(self, program: str) -> Self:
        """Start it; the first time with its history, where this machine has Prometheus' own tool for that."""
        tool = shutil.which("promtool", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))
        data = self.folder / "data"
        if self.history and tool and not data.exists():
            workspace.write_text(self.folder / "history.txt", self.history)
            # Blocks of a month: with the usual ones of two hours this takes minutes.
            words = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=720h", "--quiet"]
            subprocess.run(
                [tool, *words, str(self.folder / "history.txt"), str(data)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
                timeout=START_TIMEOUT_S,
            )  # fmt: skip
        return super().launch(program)

    def files(self) -> dict[str, str]:
        """What it watches, and one rule."""
        watched = {"prometheus": self.port, "mental_scribe": self.application_port}
        scrapes = [
            {"job_name": job, "static_configs": [_on_port(port)]} for job, port in watched.items() if port
        ]  # fmt: skip
        managers = [{"static_configs": [_on_port(self.alertmanager_port)]}] if self.alertmanager_port else []
        down = {
            "alert": "ApplicationDown", "expr": 'up{job="mental_scribe"} == 0',
            "labels": {"service": "mental_scribe"},
            "annotations": {"summary": "Mental Scribe does not answer as it should."},
        }  # fmt: skip
        return {
            "prometheus.yml": _as_yaml(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yml"],
                    "scrape_configs": scrapes,
                    "alerting": {"alertmanagers": managers},
                }
            ),
            "rules.yml": _as_yaml({"groups": [{"name": "mental_scribe", "rules": [down, *self.rules]}]}),
        }

    def words(self, program: str) -> list[str]:
        """It keeps half a year, and no more than a disk can bear."""
        return [
            program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=200d",
            "--storage.tsdb.retention.size=1GB",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]


@dataclass(frozen=True)
class Outside(Service):
    """The fakes of what is outside: one program, which chooses its ports and writes down what it serves."""

    name: ClassVar[str] = "fakes of outside services"
    programs: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""
    loss: ClassVar[str] = ""

    #: Folder with the Python package ``fakes``.
    tests: Path = Path()

    def program(self) -> str | None:
        """This Python."""
        return sys.executable

    def files(self) -> dict[str, str]:
        """It needs none."""
        return {}

    def words(self, program: str) -> list[str]:
        """``-P``, since tests/fakes has a module called http."""
        return [program, "-P", "-m", "fakes.serve", str(self.folder)]

    def environment(self) -> dict[str, str]:
        """Where the package is."""
        return {"PYTHONPATH": str(self.tests)}

    def answers(self) -> bool:
        """It writes its number down when all of them listen."""
        found = process.parse(self.process)
        return found is not None and self._said().get("pid") == found.pid

    def services(self) -> dict[str, dict[str, Any]]:
        """What it serves: by each name, how it is reached and what it wants to be told, secrets too."""
        return dict(self._said().get("services") or {})

    def _said(self) -> dict[str, Any]:
        return workspace.read_note(self.folder / "services.json") or {}

    def _on_a_free_port(self) -> Self:
        return self


class Services:
    """All of them, in the folder of the sandbox that is theirs."""

    def __init__(self, home: Home) -> None:
        """As the last run left them.

        :raises RunbookError: what was written down is damaged
        """
        self._home = home
        noted = home.read()
        self._state = str(noted.get("state", STOPPED))
        self._parts: dict[str, Service] = {
            key: Service(home.path / key).with_state(left) for key, left in (noted.get("processes") or {}).items()
        }
        #: Names of those that run, and of those that were started or would be; what is left out, a sentence each.
        self.running: list[str] = []
        self.started: list[str] = []
        self.missing: list[str] = []

    @property
    def were_started(self) -> bool:
        """Whether a run has started them, and none has stopped them since."""
        return self._state != STOPPED

    def start(
        self, nginx_path: Path, fakes_path: Path, *, history: str, pagerduty: Mapping[str, Any], would: bool
    ) -> None:
        """Start those that do not run.

        :param nginx_path: see :attr:`Nginx.shipped`
        :param fakes_path: see :attr:`Outside.tests`
        :param history: see :attr:`Prometheus.history`
        :param pagerduty: what the fake of PagerDuty begins with
        :param would: nothing is started
        :raises RunbookError: one of them cannot be started, or a path holds not what it should
        """
        _require("nginx_path", nginx_path, "server.conf")
        _require("fakes_path", fakes_path, "fakes/serve.py")
        folder = self._home.path
        begins_with = folder / "outside" / "pagerduty.json"
        if not (would or begins_with.exists()):
            self._note(self._state)
            workspace.write_text(begins_with, json.dumps(pagerduty))
        outside = self._up(Outside(folder / "outside", tests=fakes_path), would=would)
        known = outside.services()
        mail_port = known.get("mail", {}).get("email_port", 0)
        pager = known.get("pagerduty", {})
        if not importlib.util.find_spec("aiosmtpd"):
            self.missing.append(
                "The Python package aiosmtpd is not installed, so there is no mail server; run make setup-test."
            )
        tells = Alertmanager(
            folder / "alertmanager", mail_port=mail_port, webhook_url=known.get("webhook", {}).get("webhook_url", ""),
            pagerduty=(pager.get("pagerduty_api_url", ""), pager.get("pagerduty_routing_key", "")),
        )  # fmt: skip
        alertmanager = self._up(tells, would=would)
        nginx = self._up(Nginx(folder / "nginx", shipped=nginx_path), would=would)
        watches = Prometheus(
            folder / "prometheus", application_port=nginx.port, alertmanager_port=alertmanager.port, history=history,
            rules=RULES,
        )  # fmt: skip
        prometheus = self._up(watches, would=would)
        if would or not (self.started or self._state != STARTED):
            return
        reached = {
            "application": {
                "url": f"{nginx.url}/",
                "health_url": nginx.url + nginx.ready,
                "flag_dir": str(nginx.flags),
                "access_log": str(nginx.access_log),
            }
            if nginx.process
            else None,
            "prometheus": {"url": prometheus.url} if prometheus.process else None,
            "alertmanager": {"url": alertmanager.url} if alertmanager.process else None,
        }
        services = outside.services() | {name: how for name, how in reached.items() if how}
        self._note(STARTED, services)
        lines = [
            f"{name.replace('_', ' ').capitalize():<14}{how.get('page') or how['url']}"
            for name, how in services.items()
        ]
        workspace.write_text(folder / ADDRESSES, "\n".join(lines) + "\n")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End all that run, and write that down."""
        for part in self._parts.values():
            part.stop(number)
        self._note(STOPPED)

    def _up(self, part: _S, *, would: bool) -> _S:
        key = part.folder.name
        why = part.missing()
        if why:
            self.missing.append(why)
            return part
        left = self._parts.get(key)
        if left:
            part = part.with_state(left.state())
        if part.stays():
            self.running.append(part.name)
            return part
        self.started.append(part.name)
        return part if would else part.start(lambda each: self._keep(key, each))

    def _keep(self, key: str, part: Service) -> None:
        """Write a process down before it answers, so that none is lost if this one is killed."""
        self._parts[key] = part
        self._note(STARTING)

    def _note(self, state: str, services: Mapping[str, Any] | None = None) -> None:
        self._state = state
        processes = {key: part.state() for key, part in self._parts.items()}
        self._home.write({"state": state, "processes": processes, "services": services or {}})


def _require(option: str, folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise RunbookError(f"{option}: {folder} holds no {name}; name the folder that does.")


def _on_port(port: int) -> dict[str, Any]:
    return {"targets": [f"127.0.0.1:{port}"]}


def _as_yaml(config: Mapping[str, Any]) -> str:
    """JSON is YAML."""
    return json.dumps(config, indent=1) + "\n"
