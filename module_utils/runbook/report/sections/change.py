"""A change: its three checklists, and what was opened, told, done and ended, in the order of time.

Both are of the run, not of a host. They are made of the answers that each step gave, so that they are right also where
the run stopped in the middle: a line without an answer is unknown.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ansible.module_utils.runbook.report import charts
from ansible.module_utils.runbook.report.section import Panel, Section, lists
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.change.backend import SKIPPED
from ansible.module_utils.runbook.rules.change.checklist import LINES, PHASES
from ansible.module_utils.runbook.rules.change.steps import is_work
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some, to_second

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step

_MODULES = (
    "change_open", "change_ticket", "change_status_page", "change_notice", "change_contacts", "change_silence",
    "maintenance_mode", "change_probe", "change_soak", "change_error_logs", "change_steps", "change_check",
    "change_left_info", "change_close",
)  # fmt: skip
_OPEN = "change_open"
#: Words for what became of a line, with their colour.
_DONE, _PLANNED, _FAILED, _UNKNOWN, _SKIPPED = "done", "planned", "failed", "unknown", "skipped"
_WORDS = {Status.OK: _DONE, Status.BREACH: _FAILED, Status.UNKNOWN: _UNKNOWN}
_TONES = {_DONE: "ok", _FAILED: "failed", _UNKNOWN: "unknown", _PLANNED: "handled", _SKIPPED: "handled"}


@dataclass(frozen=True)
class Line:
    """A line of a checklist, with what became of it."""

    name: str
    text: str
    #: Whose answer it is, where each database has its own.
    host: str
    word: str
    #: What was done, or why not.
    msg: str = ""
    #: An address, an id, a command; empty where the sentence has it.
    proof: str = ""

    @property
    def tone(self) -> str:
        """How it is coloured."""
        return _TONES[self.word]

    @property
    def is_open(self) -> bool:
        """Whether a person has to look at it."""
        return self.word in (_FAILED, _UNKNOWN)


@dataclass(frozen=True)
class Event:
    """A row of the timeline."""

    #: UTC.
    at: str
    #: Databases; empty where the step is of the run.
    hosts: Sequence[str]
    task: str
    word: str
    tone: str
    msg: str


@dataclass(frozen=True)
class Shown:
    """What the report shows of a change."""

    summary: str
    #: The ticket, and how it is undone.
    facts: Sequence[Fact]
    #: Of each phase that has any.
    lists: Mapping[str, Sequence[Line]]
    events: Sequence[Event]


def _steps(record: Record) -> list[tuple[str, Step]]:
    """All steps that were carried out, each with its host, in the order of time."""
    found = [
        (name, step)
        for name, of_host in record["hosts"].items()
        for step in of_host["steps"]
        if step["state"] != "skipped"
    ]
    return sorted(found, key=lambda each: str(each[1]["started_at"]))


def _opened(steps: Sequence[tuple[str, Step]]) -> tuple[str, Step] | None:
    """The step that opened this run's change, with its host."""
    for host, step in steps:
        if short_name(step["module"]) == _OPEN and step["figures"].get("change_id"):
            return host, step
    return None


def _lines(record: Record) -> list[Line]:
    """The lines of all checklists; none where no change was opened."""
    steps = _steps(record)
    opened = _opened(steps)
    if opened is None:
        return []
    # Before it, what dead runs left was ended: those answers are of other changes.
    since = str(opened[1]["started_at"])
    answers: dict[str, _Answer] = {}
    for _, step in steps:
        if str(step["started_at"]) >= since:
            answers |= dict(_answers(step, known=answers))
    items = [str(item) for item in opened[1]["figures"].get("items") or ()]
    return [_line(item, answers.get(item), is_plan=record["check_mode"]) for item in items]


class _Answer(NamedTuple):
    """What was said of an item."""

    status: Status
    msg: str
    proof: str


def _answers(step: Step, known: Container[str]) -> Iterator[tuple[str, _Answer]]:
    """The items that a step answers; the one that looks at all of them counts for what nobody else showed."""
    figures, module = step["figures"], short_name(step["module"])
    if figures.get("answers"):
        answer = _Answer(Status(step["status"]), str(step["msg"]), str(figures.get("proof") or ""))
        yield closing.line_of(str(figures["answers"])), answer
    elif module == "change_contacts":
        for each in lists(figures, "checks"):
            yield f"contact:{each.get('subject')}", _Answer(Status(each["status"]), str(each["msg"]), "")
    elif module == "change_check":
        for each in lists(figures, "items"):
            if each["name"] not in known:
                yield str(each["name"]), _Answer(Status(each["status"]), str(each["msg"]), str(each["proof"]))


def _line(item: str, answer: _Answer | None, *, is_plan: bool) -> Line:
    name, _, host = item.partition(":")
    text = LINES[name].text if name in LINES else name
    if answer is None:
        return Line(name, text, host, _UNKNOWN, "No answer: the run did not come to it.")
    if answer.proof == SKIPPED:
        return Line(name, text, host, _SKIPPED, f"{SKIPPED.capitalize()}.")
    word = _WORDS[answer.status]
    if name == "rollback_plan" and answer.proof:
        return Line(name, text, host, word, "", answer.proof)
    proof = "" if answer.proof in answer.msg else answer.proof
    return Line(name, text, host, _PLANNED if is_plan and word == _DONE else word, answer.msg, proof)


def _events(record: Record) -> Iterator[Event]:
    """What was opened, told, done and ended; the same of several databases is one row."""
    rows: dict[tuple[str, str, int], list[tuple[str, Step]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for host, step in _steps(record):
        module = short_name(step["module"])
        is_nothing = module == "change_left_info" and not step["figures"].get("left") and step["status"] == Status.OK
        if (module in _MODULES or is_work(step) or _answer(step)) and not is_nothing:
            seen[host, step["task"]] += 1
            key = step["task"], charts.word(step), seen[host, step["task"]]
            rows.setdefault(key, []).append((host, step))
    for (task, word, _), found in rows.items():
        first = found[0][1]
        is_of_run = len(found) == 1 and not is_work(first) and ":" not in _answer(first)
        said = list(dict.fromkeys(str(step["msg"]) for _, step in found))
        more = f" {len(said) - 1} more said otherwise." if len(said) > 1 else ""
        hosts = [] if is_of_run else list(dict.fromkeys(host for host, _ in found))
        yield Event(to_second(str(first["started_at"]))[11:19], hosts, task, word, charts.tone(first), said[0] + more)


def _answer(step: Step) -> str:
    return str(step["figures"].get("answers") or "")


def _done(lines: Sequence[Line]) -> str:
    """How many lines are done, of those that somebody has to do."""
    asked = [line for line in lines if line.word != _SKIPPED]
    return f"{sum(not line.is_open for line in asked)} of {count(len(asked), 'line')}"


def _summary(lines: Sequence[Line]) -> str:
    """How many lines are done, and which are not.

    >>> _summary([Line("ticket", "", "", "done"), Line("health", "", "db1", "unknown")])
    '1 of 2 lines done; unknown: health (db1).'
    """
    if not lines:
        return ""
    words = [line.word for line in lines]
    said = [f"{_done(lines)} {_PLANNED if _PLANNED in words else _DONE}"]
    if _SKIPPED in words:
        said.append(f"{words.count(_SKIPPED)} {SKIPPED}")
    for word in (_FAILED, _UNKNOWN):
        names = [f"{line.name} ({line.host})" if line.host else line.name for line in lines if line.word == word]
        if names:
            said.append(f"{word}: {some(names)}")
    return "; ".join(said) + "."


def _ticket(steps: Sequence[tuple[str, Step]]) -> str:
    found = [str(step["figures"]["ticket_url"]) for _, step in steps if step["figures"].get("ticket_url")]
    return found[-1] if found else ""


def _way_back(opened: tuple[str, Step] | None) -> str:
    return str(opened[1]["figures"].get("rollback_plan") or "") if opened else ""


def of_run(record: Record) -> list[Panel]:
    """The checklists and the timeline."""
    steps, lines = _steps(record), _lines(record)
    opened, events = _opened(steps), list(_events(record))
    if not any(short_name(step["module"]) in _MODULES for _, step in steps) or not (lines or len(events) > 1):
        return []
    facts = [("Ticket", _ticket(steps)), ("Way back", _way_back(opened))]
    lists = {
        title: [line for line in lines if line.name in LINES and LINES[line.name].phase == phase]
        for phase, title in PHASES.items()
    }
    shown = Shown(
        _summary(lines), [fact for fact in facts if fact[1]],
        {title: found for title, found in lists.items() if found}, events,
    )  # fmt: skip
    return [Panel("The change", template="change", content=shown)]


def _headline(record: Record) -> list[Fact]:
    lines, steps = _lines(record), _steps(record)
    found = [("Change", _done(lines))] if lines else []
    tickets = [str(step["figures"]["ticket_id"]) for _, step in steps if step["figures"].get("ticket_id")]
    return [*found, *(("Ticket", each) for each in tickets[-1:])]


def _for_terminal(record: Record, host: str, width: int) -> list[str]:
    """How it stands with the change; where a person has to look, with the ticket and the way back."""
    steps = _steps(record)
    opened = _opened(steps)
    if opened is None or opened[0] != host:
        return []
    lines = _lines(record)
    told = [f"Change: {_summary(lines)}"]
    if record["status"] != Status.OK or any(line.is_open for line in lines):
        told += [f"{title}: {text}" for title, text in (("Ticket", _ticket(steps)), ("Way back", _way_back(opened)))
                 if text]  # fmt: skip
    return [
        row
        for text in told
        for row in textwrap.wrap(
            text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
        )
    ]


SECTIONS = (
    Section(
        modules=_MODULES,
        # What there is to say of them stands once, in the panel of the run.
        panels=lambda *_: (),
        of_run=of_run,
        around=True,
        work_of="change_close",
        headline=_headline,
        lines=_for_terminal,
    ),
)
