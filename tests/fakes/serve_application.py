"""What is outside of the sandbox's application: a program that serves fakes on loopback until it is told to end.

``python -P -m fakes.serve_application FOLDER REPOSITORY`` with ``tests`` on ``PYTHONPATH``: Vercel, which deploys what
is pushed to the repository, the sites of production and staging, and OSV, which knows one advisory. Nothing is kept:
what the repository holds is what was deployed. ``FOLDER/services.json`` is as that of ``fakes.serve``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes import vercel
from fakes.git_integration import ConnectedVercel
from fakes.osv import FakeOsv
from fakes.serve import write
from fakes.vercel import Site


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("repository", type=Path)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as serving:
        api = serving.enter_context(ConnectedVercel(given.repository))
        live, staging = serving.enter_context(Site(api)), serving.enter_context(Site(api, branch="staging"))
        osv = serving.enter_context(FakeOsv())
        # So new that it is due, and not overdue.
        published = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
        osv.advisory(
            "GHSA-sand-box0-0001", "note-markup", "1.2.0", published=published, fixed="1.2.1",
            aliases=("CVE-2026-0001",), summary="Text of a note becomes part of the page",
        )  # fmt: skip
        told = {
            "vercel": {"url": api.url, **vercel.OPTIONS},
            "live": {"url": live.url},
            "staging": {"url": staging.url},
            "osv": {"url": osv.url},
        }
        write(given.folder / "services.json", {"pid": os.getpid(), "services": told})
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
