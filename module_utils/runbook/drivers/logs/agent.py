"""What is done on the host that has the log files.

Its text is sent to that host's Python, so it is standard library alone.

It is asked by one JSON object in its first argument, and answers with JSON; ``read`` answers with the file's bytes.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PIECE = 1 << 20
#: Exit code of logrotate where another one holds its state file.
BUSY = 3
#: Endings of files that logrotate does not read in a folder (logrotate(8), tabooext).
NOT_READ = (
    ",v", ".bak", ".cfsaved", ".disabled", ".dpkg-bak", ".dpkg-del", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".rpmnew",
    ".rpmorig", ".rpmsave", ".swp", ".ucf-dist", ".ucf-new", ".ucf-old", "~",
)  # fmt: skip


def writers(handle: int) -> str:
    """Whether somebody has an open file open for writing.

    The kernel gives a lease for reading only where nobody has (fcntl(2), F_SETLEASE), to the file's owner and to root.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return "yes" if error.errno == errno.EAGAIN else "untold"
    return "no"


def opened(asked: dict[str, Any]) -> int:
    """The very file that was found; any other is an error."""
    handle = os.open(asked["path"], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(handle)
    if (found.st_dev, found.st_ino) != (asked["device"], asked["inode"]) or not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ESTALE, "another file has its name by now")
    return handle


def listing(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Plain files by their patterns."""
    found = []
    for path in sorted({path for pattern in asked["patterns"] for path in glob.glob(pattern)}):  # noqa: PTH207 - an absolute one
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                continue
            raise
        told = os.fstat(handle)
        if stat.S_ISREG(told.st_mode):
            found.append({
                "path": path, "device": told.st_dev, "inode": told.st_ino, "size_bytes": told.st_size,
                "modified_ns": told.st_mtime_ns, "writers": writers(handle),
            })  # fmt: skip
        os.close(handle)
    return found


def cut(asked: dict[str, Any]) -> int:
    """Where a part ends that begins at ``start`` and is no longer than ``most``: behind a line."""
    handle, start, most = opened(asked), int(asked["start"]), int(asked["most"])
    end: int = min(start + most, asked["end"])
    if end == asked["end"] and asked["whole"]:
        return end
    at = end
    while at > start:
        begin = max(start, at - PIECE)
        piece = os.pread(handle, at - begin, begin)
        newline = piece.rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    # One line that is longer than a part is cut; of one that is still being written nothing is taken.
    return end if end < asked["end"] or asked["whole"] else start


def read(asked: dict[str, Any]) -> None:
    """A part of a file, to the standard output."""
    handle, at = opened(asked), asked["start"]
    while at < asked["end"]:
        piece = os.pread(handle, min(PIECE, asked["end"] - at), at)
        if not piece:
            raise OSError(errno.EIO, "it is shorter than it was")
        at += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(1, view) :]


def delete(asked: dict[str, Any]) -> str:
    """Delete a file that is, to the byte, what was archived; why not, where it is not."""
    try:
        handle = opened(asked)
    except FileNotFoundError:
        return ""
    # Under this lease nobody can open it for writing before it is gone.
    held = writers(handle)
    if held == "yes":
        return "somebody has it open for writing"
    if held != "no":
        return (
            "this user may not know whether somebody has it open for writing: it is neither the file's owner nor root"
        )
    at = 0
    for part in asked["parts"]:
        digest = hashlib.sha256()
        if part["start"] != at:
            return "a part of it was not archived"
        while at < part["end"]:
            piece = os.pread(handle, min(PIECE, part["end"] - at), at)
            if not piece:
                return "it is shorter than what was archived"
            digest.update(piece)
            at += len(piece)
        if digest.hexdigest() != part["sha256"]:
            return "it is not what was archived"
    told = os.fstat(handle)
    if told.st_size != at:
        return "it grew since it was archived"
    now = os.lstat(asked["path"])
    if (now.st_dev, now.st_ino) != (told.st_dev, told.st_ino):
        return "another file has its name by now"
    Path(asked["path"]).unlink()
    return ""


def rotate(asked: dict[str, Any]) -> dict[str, Any]:
    """Install logrotate's configuration, and let it rotate; or say what would be done."""
    program = shutil.which("logrotate", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if program is None:
        return {"error": "logrotate is not installed there; install its package"}
    path, state = Path(asked["config"]), asked["state"]
    try:
        before = path.read_text()
    except FileNotFoundError:
        before = ""
    folder = Path(tempfile.mkdtemp(prefix="runbook-logrotate-"))
    try:
        tried = folder / path.name
        tried.write_text(asked["text"])
        tried.chmod(0o644)
        # Beside the others of its folder: two entries for one log would take files away from each other.
        beside = [
            each
            for each in (sorted(path.parent.iterdir()) if path.parent.is_dir() else [])
            if each.name != path.name and each.is_file() and not each.name.endswith(NOT_READ)
        ]
        done = subprocess.run(
            [program, "--debug", "--state", str(folder / "state"), *map(str, beside), str(tried)],
            capture_output=True, text=True, timeout=asked["limit_s"], check=False,
        )  # fmt: skip
        wrong = [line for line in done.stderr.splitlines() if line.startswith("error:") and str(tried) in line]
        if wrong:
            return {
                "error": "logrotate refuses the configuration: " + wrong[0].replace(str(tried), str(path)),
                "before": before,
            }
        if asked["look"]:
            return {"before": before, "changed": before != asked["text"]}
        if before != asked["text"]:
            # Its ending is one of those that logrotate does not read.
            new = path.with_name(path.name + ".disabled")
            new.write_text(asked["text"])
            new.chmod(0o644)
            new.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    words = [program, "--state", state, *(["--force"] if asked["force"] else []), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=asked["limit_s"], check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")] or done.stderr.splitlines()[-1:]
    return {"before": before, "changed": before != asked["text"], "code": done.returncode, "said": said[:3]}


def main() -> None:
    """Do what is asked."""
    asked = json.loads(sys.argv[1])
    acts = {"listing": listing, "cut": cut, "read": read, "delete": delete, "rotate": rotate}
    try:
        answer = acts[asked["act"]](asked)
    except (OSError, subprocess.TimeoutExpired) as error:
        where = getattr(error, "filename", None) or asked.get("path", "")
        sys.stderr.write(f"{where}: {getattr(error, 'strerror', None) or 'it took too long'}")
        sys.exit(1)
    if asked["act"] != "read":
        sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
