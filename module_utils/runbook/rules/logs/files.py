"""Log files of a host: which they are, how logrotate rotates them, and which part of a rotated one is archived next.

Files are renamed and never copied and truncated, because what is written in between is lost then. Their new names hold
the moment of the rotation, so that none is ever given twice. logrotate deletes none: it cannot know whether it was
archived.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.logs.streams import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What logrotate adds to a name: the day, and the second since 1970.
DATEFORMAT = "-%Y%m%d-%s"
#: What logrotate.conf of the host may say for all logs, and what would lose lines or hide files: its own timer reads
#: our entry behind it.
_NOT_FROM_THE_HOST = ("maxage 0", "nocopytruncate", "nocopy", "noolddir", "nomail", "noshred")
_ROTATED = re.compile(r"-\d{8}-\d{9,}")
_KEYS = {"name", "paths", "class", "postrotate", "create", "su"}
_PATH = re.compile(r"/[^\s\0\"'{}\\#]+")
_CREATE = re.compile(r"0[0-7]{3} [\w.-]+ [\w.-]+")
_SU = re.compile(r"[\w.-]+ [\w.-]+")


@dataclass(frozen=True)
class Files:
    """One stream of files."""

    name: str
    retention_class: str
    #: Absolute, with shell patterns.
    paths: tuple[str, ...]
    #: What tells the writer to open its log again; it runs on the host.
    postrotate: str = ""
    #: Mode, user and group of the new file; empty where the writer makes it.
    create: str = ""
    #: User and group that rotate, for a folder that others may write to.
    su: str = ""

    @property
    def rotated(self) -> list[str]:
        """Patterns of the files that were rotated."""
        return [f"{path}-*" for path in self.paths]


def read(given: Sequence[Mapping[str, Any]]) -> list[Files]:
    """The streams of files that the inventory names.

    :raises RunbookError: one is not whole; the sentence names it
    """
    found: list[Files] = []
    for said in given:
        name = check_name("files", said.get("name"))
        unknown = sorted(set(said) - _KEYS)
        if unknown:
            raise RunbookError(f"files: {name} has {', '.join(unknown)}; an entry knows {', '.join(sorted(_KEYS))}.")
        paths = said.get("paths") or []
        wrong = [path for path in paths if not isinstance(path, str) or not _PATH.fullmatch(path)]
        if not paths or wrong:
            raise RunbookError(
                f"files: paths of {name} {'has ' + repr(wrong[0]) if wrong else 'is empty'}; give absolute paths, with "
                "patterns of the shell and without spaces."
            )
        made = Files(
            name, check_name(f"files: class of {name}", said.get("class")), tuple(paths),
            str(said.get("postrotate") or ""), str(said.get("create") or ""), str(said.get("su") or ""),
        )  # fmt: skip
        for key, form, example in (("create", _CREATE, "0640 www-data adm"), ("su", _SU, "www-data adm")):
            value = getattr(made, key)
            if value and not form.fullmatch(value):
                raise RunbookError(f"files: {key} of {name} is {value!r}; write it as {example}.")
        if "endscript" in made.postrotate or "\0" in made.postrotate:
            raise RunbookError(f"files: postrotate of {name} holds endscript, which would end it; take it out.")
        if any(each.name == name for each in found):
            raise RunbookError(f"files: {name} is there twice; give each its own name.")
        found.append(made)
    _refuse_rotated(found)
    return found


def _refuse_rotated(streams: Sequence[Files]) -> None:
    """No pattern may match the name of a rotated file: that would be rotated and archived again, every day."""
    every = [(stream.name, path) for stream in streams for path in stream.paths]
    for _name, path in every:
        # Any last digits, as for a pattern that ends with [0-9].
        for number in range(100):
            rotated = f"{_example(path)}-20260601-17800000{number:02d}"
            for name, pattern in every:
                if _matches(pattern, rotated):
                    raise RunbookError(
                        f"files: {pattern!r} in paths of {name} also matches what logrotate makes of {path!r}, such as "
                        f"{rotated}, which would be rotated again every day; end the pattern with what the log's own "
                        "name ends with, such as *.log."
                    )


def _example(pattern: str) -> str:
    """A path that a pattern of the shell matches."""
    return re.sub(
        r"\*|\?|\[(!?)(\]?[^\]]*)\]",
        lambda found: "a" if found[2] is None or found[1] else found[2][0],
        pattern,
    )


def _matches(pattern: str, path: str) -> bool:
    """As glob(7): no pattern matches a slash, nor a dot at the beginning of a name."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(
        fnmatchcase(name, want) and (want.startswith(".") or not name.startswith("."))
        for name, want in zip(names, wanted, strict=True)
    )


def configuration(streams: Sequence[Files]) -> str:
    """Logrotate's configuration for the streams (logrotate(8))."""
    parts = ["# Written by playbooks/logs.yml; what is changed here is overwritten.\n"]
    for each in streams:
        lines = ["daily", "rotate -1", "dateext", f"dateformat {DATEFORMAT}", "nocompress", "missingok", "notifempty"]
        lines += _NOT_FROM_THE_HOST
        lines += [f"create {each.create}" if each.create else "nocreate"]
        lines += [f"su {each.su}"] if each.su else []
        if each.postrotate:
            lines += ["sharedscripts", "postrotate", *(f"    {line}" for line in each.postrotate.splitlines())]
            lines += ["endscript"]
        body = "".join(f"    {line}\n" for line in lines)
        parts.append(f"# {each.name}\n{' '.join(each.paths)} {{\n{body}}}\n")
    return "\n".join(parts)


@dataclass(frozen=True)
class Found:
    """A file on its host, as it was found."""

    path: str
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    #: Whether somebody has it open for writing: ``no``, ``yes``, or ``untold`` where this user may not know.
    writers: str

    @property
    def is_rotated(self) -> bool:
        """Whether its name is one that our logrotate gave.

        >>> Found("/var/log/app.log-20261129-1795950519", 0, 0, 0, 0, "no").is_rotated
        True
        >>> Found("/var/log/app.log-notes", 0, 0, 0, 0, "no").is_rotated
        False
        """
        name = self.path.rpartition("/")[2]
        return _ROTATED.fullmatch(name[name.rfind("-", 0, name.rfind("-")) :]) is not None


@dataclass(frozen=True)
class Part:
    """A part of a file that is archived already."""

    start: int
    end: int
    sha256: str


def parts(archived: Iterable[tuple[Mapping[str, Any], str]]) -> list[Part]:
    """What is archived of one file, in order.

    :param archived: ``source`` of each of its archives, and the hash of its lines
    """
    found = [Part(int(said["start"]), int(said["end"]), sha256) for said, sha256 in archived]
    return sorted(found, key=lambda part: part.start)


def covered(done: Sequence[Part]) -> int:
    """How many bytes from the beginning of a file are archived without a gap.

    >>> covered([Part(0, 10, "a"), Part(10, 30, "b")]), covered([Part(5, 9, "c")])
    (30, 0)
    """
    end = 0
    for part in done:
        if part.start > end:
            break
        end = max(end, part.end)
    return end
