"""Get the programs that look at web pages, Lighthouse and Puppeteer, from npm.

``python -m tools.web_tools [FOLDER]`` puts them into ``.cache/web``, or into a folder that an inventory then names as
``web_performance_tools_path``. What ``tools/web/package-lock.json`` names is installed, and nothing of it is run.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tools/web"
FOLDER = ROOT / ".cache/web"
FILES = ("package.json", "package-lock.json", "heap_turns.mjs")
#: Some 100 MB, in half a minute. Who has no network is told so at once.
_FETCH_S = 600
_WORDS = ("ci", "--ignore-scripts", "--fetch-retries=0", "--no-audit", "--no-fund", "--omit=dev")


def install(folder: Path = FOLDER) -> str:
    """Install what is not there yet; why that cannot be done, or an empty text.

    Of several processes one installs, and the others wait for it.
    """
    wanted = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()
    # Written last, so that an installation that was cut short starts over.
    complete = folder / "complete"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists() and complete.read_text() == wanted:
            return ""
        npm = shutil.which("npm")
        if npm is None:
            return "npm is not installed; install Node.js 20 or newer"
        complete.unlink(missing_ok=True)
        for name in FILES:
            shutil.copyfile(SOURCE / name, folder / name)
        try:
            done = subprocess.run(
                [npm, *_WORDS], cwd=folder, capture_output=True, text=True, check=False, timeout=_FETCH_S
            )
        except subprocess.TimeoutExpired:
            return f"npm gave no end within {_FETCH_S} s"
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
            return f"npm ended with exit code {done.returncode}: {lines[0]}"
        complete.write_text(wanted)
    return ""


def main(arguments: list[str]) -> int:
    """Install, and say so."""
    folder = Path(arguments[0]) if arguments else FOLDER
    failure = install(folder)
    print(f"Not installed: {failure}." if failure else f"{folder} has Lighthouse and Puppeteer.")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
