"""The pages of the sandbox's application behind nginx, with a cache before them as a CDN has one.

One nginx is both: it asks itself for what its cache does not have.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ansible.module_utils.runbook.drivers import child_process
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.sandbox.services import Service
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Website(Service):
    """nginx with a cache."""

    name: ClassVar[str] = "the pages of the application (nginx)"
    programs: ClassVar[tuple[str, ...]] = ("nginx",)
    package: ClassVar[str] = "nginx-light"
    loss: ClassVar[str] = "page to measure"
    ready: ClassVar[str] = "/healthz"

    @property
    def pages(self) -> Path:
        """The build that is served."""
        return self.folder / "dist"

    @property
    def access_log(self) -> Path:
        """Requests in nginx's combined form, with the status of the cache behind it."""
        return self.folder / "access.log"

    def files(self) -> dict[str, str]:
        """As an ordinary user runs nginx."""
        temporary = "".join(
            f'    {kind}_temp_path "{self.folder}/temporary/{kind}";\n'
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return {
            "nginx.conf": f"""\
daemon off;
master_process off;
pid "{self.folder}/nginx.pid";
error_log stderr;
events {{ worker_connections 256; }}
http {{
    types {{
        text/html html; text/css css; application/javascript js; image/png png; application/json json;
    }}
    log_format cached '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                      '"$http_referer" "$http_user_agent" $upstream_cache_status';
    access_log off;
    proxy_cache_path "{self.folder}/cache" keys_zone=pages:1m;
{temporary}
    server {{
        listen 127.0.0.1:{self.port} default_server;
        access_log "{self.access_log}" cached;
        gzip on;
        gzip_proxied any;
        gzip_types application/javascript;
        location / {{
            proxy_pass http://127.0.0.1:{self.port};
            proxy_set_header Host origin;
            proxy_cache pages;
            add_header X-Cache-Status $upstream_cache_status;
        }}
        location = /healthz {{ access_log off; default_type text/plain; return 200 "ok"; }}
    }}
    server {{
        listen 127.0.0.1:{self.port};
        server_name origin;
        absolute_redirect off;
        root "{self.pages}";
        location / {{ try_files $uri $uri.html $uri/index.html =404; add_header Cache-Control "public, max-age=60"; }}
        location /assets/ {{ add_header Cache-Control "public, max-age=31536000, immutable"; }}
        location /api/ {{ default_type application/json; add_header Cache-Control no-store; return 200 "[]"; }}
        location = /broken {{ default_type text/html; return 500 "<!doctype html><title>Error</title><h1>Error</h1>"; }}
        location = /private {{ return 302 /login; }}
        location = /login {{ default_type text/html; return 200 "<!doctype html><title>Log in</title>Log in"; }}
    }}
}}
""",
        }

    def words(self, program: str) -> list[str]:
        """In the foreground."""
        closed(self.folder / "temporary")
        return [program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]

    def build(self, fakes_path: Path) -> None:
        """Write the pages, where they are not there.

        :param fakes_path: folder with the Python package ``fakes``
        :raises RunbookError: they cannot be written
        """
        if (self.pages / "index.html").exists():
            return
        closed(self.folder)
        done = child_process.run(
            [sys.executable, "-P", "-m", "fakes.website", str(self.pages)],
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(fakes_path)},
            cwd=self.folder,
            timeout_s=60,
        )
        if done.code != 0:
            said = done.stderr.decode(errors="replace")[-300:]
            raise RunbookError(f"The pages of the application cannot be written: {said}")
