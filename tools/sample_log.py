"""Write a log as an application would: a line every few seconds of the last hours. For the sandbox, to be rotated.

``python -m tools.sample_log .sandbox/logs`` appends to ``app.log`` there, and makes the folder for logrotate's files.
"""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

LINES = 20_000
PATHS = ("/", "/login", "/api/notes", "/api/sessions", "/static/app.js")


def main(folder: Path) -> None:
    """Append the lines, the newest one of now."""
    (folder / "logrotate.d").mkdir(parents=True, exist_ok=True)
    # logrotate takes no log out of a folder that others may write to.
    folder.chmod(0o755)
    chance = random.Random(1)  # noqa: S311 - a sample
    at = datetime.now(UTC) - timedelta(seconds=3 * LINES)
    with (folder / "app.log").open("a") as file:
        for number in range(LINES):
            at += timedelta(seconds=3)
            status = chance.choice((200, 200, 200, 304, 401, 500))
            file.write(
                f"{at:%Y-%m-%dT%H:%M:%SZ} {'ERROR' if status == 500 else 'INFO'} request id={number:06d} "
                f"path={chance.choice(PATHS)} status={status} duration_ms={chance.randrange(900)}\n"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
