"""From a run's journal to its record and reports."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import charts, sections, wording
from ansible.module_utils.runbook.report import journal as journals
from ansible.module_utils.runbook.report.metrics import merged, metrics, successes
from ansible.module_utils.runbook.report.places import (
    earlier_runs,
    environment_of,
    give,
    make_readable,
    place_of_record,
    slug,
)
from ansible.module_utils.runbook.report.sections import MEANING, SECTIONS
from ansible.module_utils.runbook.report.view import point, report
from ansible.module_utils.runbook.rules import state, words
from ansible.module_utils.runbook.rules.record import SCHEMA_VERSION, fold, is_frozen, known_hosts
from ansible.module_utils.runbook.rules.schedule import schedule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Value
    from jinja2.bccache import Bucket

_TEMPLATES = Path(__file__).parent / "templates"
#: Characters of report.md: a comment on GitHub takes 65,536, and something may stand before the report.
MAX_MARKDOWN = 60_000
_TABLE_ROWS = 50
#: Runs in the trend charts.
HISTORY = 30
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"} | {"\n": " ", "\r": " "})


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            give(file.fileno(), path.parent)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Compiled templates, kept from run to run in a folder of this user's alone: compiling costs more than all else."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a template; a full disk is no reason to have no report."""
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _environment(**options: Any) -> jinja2.Environment:
    try:
        compiled = _Compiled()
    except (OSError, RuntimeError):  # no folder for temporary files, or somebody else's in its place
        compiled = None
    environment = jinja2.Environment(  # noqa: S701 - the page is escaped by Jinja, Markdown by its own filter, cell by cell
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=compiled,
        **options,
    )
    environment.filters["counted"] = words.count
    environment.filters["lower_first"] = wording.lower_first
    environment.filters["tone"] = charts.tone_of
    return environment


def page(template: str, styles: Sequence[str], **shown: Any) -> str:
    """A page that needs nothing else."""
    css = Markup("".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in styles))  # noqa: S704 - our own files
    return _environment(autoescape=True).get_template(template).render(css=css, **shown).lstrip()


def html(record: Mapping[str, Any], history: list[dict[str, Any]], notes: list[str]) -> str:
    """The report as one page that needs nothing else."""
    return page("report.html.j2", ("report.css",), **report(record, history, notes))


def markdown(record: Mapping[str, Any], history: list[dict[str, Any]], notes: list[str]) -> str:
    """The report in short, for a ticket: of many hosts the odd ones, as many as fit."""
    shown = report(record, history, notes)
    template, hosts = _markdown().get_template("report.md.j2"), shown["hosts"]
    odd = [host for host in hosts if host["status"] != Status.OK]
    text = ""
    for detailed, rows in ((hosts, len(hosts)), (odd, len(hosts)), ([], len(hosts)), ([], _TABLE_ROWS)):
        left = [count(len(hosts) - len(detailed), "host's steps", "hosts' steps")] if len(detailed) < len(hosts) else []
        left += [f"{len(hosts) - rows} rows of the table"] if rows < len(hosts) else []
        said = f"Left out, to fit into a ticket: {' and '.join(left)}; report.html of this run has them."
        text = template.render(shown | {"detailed": detailed, "rows": rows, "left_out": said if left else ""})
        if len(text) <= MAX_MARKDOWN:
            return text
    cut = text[:MAX_MARKDOWN].rpartition("\n")[0]
    return f"{cut}\n\nThe rest is left out, to fit into a ticket; report.html of this run has it.\n"


def _markdown() -> jinja2.Environment:
    environment = _environment(keep_trailing_newline=True)
    environment.filters["cell"] = lambda value: str(value).translate(_MARKDOWN)
    return environment


def pages(record: Mapping[str, Any], history: list[dict[str, Any]]) -> dict[str, str]:
    """Files that sections add to a run, by their name."""
    found = {}
    for each in [each for section in SECTIONS if section.pages for each in section.pages(record, history)]:
        text = each.text
        if each.template.endswith(".html.j2"):
            text = page(each.template, each.styles, **each.shown)
        elif each.template:
            text = _markdown().get_template(each.template).render(each.shown)
        found[each.name] = text
    return found


def history_of(
    directory: Path, record: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Value]], list[str]]:
    """Runs of the same playbook up to this one, oldest first, what they know for longer, and what could not be read.

    Runs in check mode change nothing and are left out, and so are those of other inventories.
    """
    points: list[dict[str, Any]] = []
    facts = sections.lasting(record)
    broken = 0
    for path in earlier_runs(directory.parent, record["playbook"]):
        if path == directory or len(points) >= HISTORY - 1:
            continue
        try:
            other = json.loads((path / "record.json").read_text(encoding="utf-8"))
            if (
                other["schema_version"] == SCHEMA_VERSION
                and not other["check_mode"]
                and other["started_at"] < record["started_at"]
                and place_of_record(other) == place_of_record(record)
            ):
                points.append(point(other, path.name))
                facts = sections.merged(facts, sections.lasting(other))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            broken += 1
    points.reverse()
    if not record["check_mode"]:
        points.append(point(record, None))
    missing = f"Not read, and missing in the trends: {count(broken, 'earlier record')}."
    return points, facts, [missing] if broken else []


def render_copy(path: Path) -> tuple[dict[str, Any], Path]:
    """Make the report of a record that was copied elsewhere, beside it: the record, and the report.

    :param path: a ``record.json``, or a copy of the state store's; without the runs around it there are no trends
    :raises OSError: it could not be read, or the report could not be written
    :raises RunbookError: it is no record of this project
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        record: dict[str, Any] = state.body_of(found) or found
        page = html(record, [point(record, None)], [])
    except (ValueError, KeyError, TypeError, AttributeError, jinja2.UndefinedError):
        raise RunbookError(f"{path} is no record of a run, or one of another version of this project.") from None
    report = path.with_suffix(".html")
    write_whole(report, page)
    return record, report


def _publish(latest: Path, record: Mapping[str, Any], samples: str, known: Collection[str] | None) -> None:
    """Put a run's metrics where node_exporter finds them, beside what earlier runs said of other hosts.

    Each environment has files of its own: of two environments in one file a run would wipe the other's.

    :raises OSError: they cannot be written
    """
    # node_exporter is another user.
    make_readable(latest)
    of = environment_of(record)
    start = f"{slug(of)}-" if of else ""
    path = latest / f"{start}{record['playbook']}.prom"
    # Slices of one job may end at the same time.
    handle = os.open(latest, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            before = path.read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            before = ""
        write_whole(path, merged(samples, before, record, known), mode=0o644)
        if record["schedule"] and schedule.is_name(record["schedule"]):
            path = latest / f"{start}job-{record['schedule']}.prom"
            before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            done = successes(record, before, known)
            if done or before:
                write_whole(path, done, mode=0o644)
    finally:
        os.close(handle)


def render_run(directory: Path, *, publish: bool = False) -> dict[str, Any]:
    """Make ``record.json`` and the reports of the run in ``directory`` from its journal.

    :param publish: also put the metrics into ``metrics/<environment>-<playbook>.prom`` beside the runs, where
        node_exporter finds the latest of each playbook; never done for a run in check mode, nor for a scheduled one
        that a freeze refused: it did nothing, and the run before it is the last one
    :return: the record
    :raises OSError: the journal could not be read, or a file could not be written
    :raises RunbookError: the journal holds no run
    """
    events, torn = journals.read(directory / journals.FILE_NAME)
    record = fold(events, MEANING, torn_lines=torn)
    write_whole(directory / "record.json", json.dumps(record, indent=1) + "\n")
    known = known_hosts(events)
    history, facts, notes = history_of(directory, record)
    if known is not None:
        facts = {host: found for host, found in facts.items() if host in {*known, *record["hosts"]}}
    samples = metrics(record, facts)
    write_whole(directory / "metrics.prom", samples)
    if publish and not record["check_mode"] and not is_frozen(record):
        _publish(directory.parent / "metrics", record, samples, known)
    notes += [note for section in SECTIONS if section.notes for note in section.notes(record)]
    for name, text in pages(record, history).items():
        write_whole(directory / name, text)
    write_whole(directory / "report.html", html(record, history, notes))
    write_whole(directory / "report.md", markdown(record, history, notes))
    return record
