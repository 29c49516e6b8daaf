"""What a subject says of its modules' results, and how the reports show it.

``sections/<subject>.py`` declares a :class:`Section` for each module, or for a few of them; ``sections/__init__.py``
lists them all. Nothing else in the reports, and nothing in the record, knows a module by its name. Most sections only
name figures and lists. A module without a section is shown whole: its figures, its checks, and each list as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.rules.record import epoch_s, is_number
from ansible.module_utils.runbook.rules.status import Status

#: A step of one host in the record, the figures of its result, and a whole record.
Step = Mapping[str, Any]
Figures = Mapping[str, Any]
Record = Mapping[str, Any]
#: A name, and what stands beside it.
Fact = tuple[str, str]

#: Longer tables are in record.json.
MAX_ROWS = 500
#: A table of at most so many rows is not folded.
OPEN_ROWS = 12
#: Figures that stand elsewhere in the report, or say nothing to a person.
_ELSEWHERE = frozenset({"executed_queries", "rc", "status"})
#: What says nothing; 0 and false do.
_NOTHING: tuple[object, ...] = (None, "", [], {})
#: Where a result has its checks. Older records call them findings.
_CHECKS = ("checks", "findings")


@dataclass(frozen=True)
class Chart:
    """A chart: ``line``, ``fan``, ``pairs`` (before and after), ``spread`` or ``bars``, as its macro is named."""

    kind: str
    title: str
    #: What it shows, for those who cannot see it.
    description: str
    drawn: Any


@dataclass(frozen=True)
class Table:
    """A table: headings with their style (``""``, ``num`` or ``state``), and rows of texts."""

    title: str
    head: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    #: Rows that stand in record.json, or nowhere.
    left_out: int = 0
    is_open: bool = False
    #: The numbers of a chart, of which a ticket needs no copy.
    is_numbers: bool = False

    @property
    def count(self) -> int:
        """All rows, those too that are left out."""
        return len(self.rows) + self.left_out


@dataclass(frozen=True)
class Panel:
    """A part of one host's report."""

    title: str
    msg: str = ""
    grid: Sequence[Fact] = ()
    #: Each with its ``name``, ``status`` and ``msg``.
    checks: Sequence[Mapping[str, str]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    #: Templates of its own, ``<template>.html.j2`` and ``<template>.md.j2``, whose macro ``panel`` sets ``content``.
    template: str = ""
    content: Any = None
    #: Stands before the time per step.
    is_first: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return any((self.grid, self.checks, self.charts, self.tables, self.template))


@dataclass(frozen=True)
class Listing:
    """A list of a result that is shown as a table.

    :param figure: where it stands in the result
    :param columns: keys of its entries, each with its heading
    """

    figure: str
    title: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """A column of the table of hosts, left out where no host fills it: what it says of a host's totals."""

    title: str
    text: Callable[[Mapping[str, float]], str]


@dataclass(frozen=True)
class Trend:
    """A figure that is drawn over the last runs: a total, or what ``value`` makes of the totals."""

    title: str
    key: str
    text: Callable[[float], str]
    value: Callable[[Mapping[str, float]], float | None] | None = None

    def of(self, totals: Mapping[str, float]) -> float | None:
        """This figure of one run."""
        return self.value(totals) if self.value else totals.get(self.key)


@dataclass(frozen=True)
class Metric:
    """A metric ``runbook_<name>`` that outlasts the run: its meaning, and its label beside the host, if it has one."""

    text: str
    label: str = ""


#: A metric's value; of one with a label, a value for each of them.
Value = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Line:
    """A line of the board: one fact that outlasts runs, judged at the moment when the board is made."""

    #: What it is about, as ``newest backup`` or the name of an endpoint.
    subject: str
    text: str
    status: Status = Status.OK
    #: What to do, where it is not ok.
    msg: str = ""
    #: Of a bar, how much is left: 0 to 1.
    share: float | None = None
    #: What mends it: a playbook and its options, as ``backup.yml``; empty where that is to look again.
    fix: str = ""


@dataclass(frozen=True)
class Gauge:
    """A card of the board."""

    title: str
    #: The playbook that looks, and its options, as ``logs.yml -t verify``.
    look: str
    #: Lines of one host: of its metrics that outlast runs, and now, in seconds since 1970.
    lines: Callable[[Mapping[str, Any], float], Sequence[Line]]
    #: Groups of the inventory whose hosts must all have a line. Of others at least one host must.
    groups: Sequence[str] = ()
    #: Nobody has to have it: what has no line is not shown.
    is_optional: bool = False


@dataclass(frozen=True)
class Page:
    """A file of the run beside its report: its text, or the template that makes it.

    :param link: what the report calls it; empty for a file that it does not link to
    """

    name: str
    text: str = ""
    template: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    styles: Sequence[str] = ()
    link: str = ""


@dataclass(frozen=True)
class Section:
    """What is shown of some modules' results. All but the modules may be left out.

    Functions of steps get those of these modules on one host, without skipped ones, in their order.
    """

    modules: Sequence[str]
    #: Over each step: the title, with the name of what it is about, the figures in this order, and lists as tables.
    title: str = ""
    named_by: Sequence[str] = ("database", "target_database")
    figures: Sequence[str] | Callable[[Figures], Sequence[str]] = ()
    listings: Sequence[Listing] = ()
    #: What the panel of a step shows beyond that.
    more: Callable[[Panel, Figures], Panel] | None = None
    #: In place of all this: the panels of a host's steps; of the record and the host's name too.
    panels: Callable[[Sequence[Step], Record, str], Sequence[Panel]] | None = None
    #: What is of the run and of no host; it stands before them.
    of_run: Callable[[Record], Sequence[Panel]] | None = None

    #: They only prepare a run or close it, and are its work in this one playbook, or in none.
    around: bool = False
    work_of: str = ""
    #: Their results say what the host is, and what may be written to.
    identity: bool = False

    #: Sums for a host, and so for the run.
    totals: Callable[[Sequence[Step]], Mapping[str, float]] | None = None
    columns: Sequence[Column] = ()
    trends: Sequence[Trend] = ()
    #: Large figures at the top of the report.
    headline: Callable[[Record], Sequence[Fact]] | None = None
    #: A sentence for the verdict; what has one is not "all well".
    remark: Callable[[Record], str] | None = None
    #: What was done to a host, in a few words for the terminal, or would be; and modules that then go without saying.
    did: Callable[[Mapping[str, Any], bool], Sequence[str]] | None = None
    covers: Sequence[str] = ()
    #: Lines for the terminal below a host's own: of the record, the host's name, and the terminal's width.
    lines: Callable[[Record, str, int], Sequence[str]] | None = None
    #: What a person has to know of a step though it is green, with what to do.
    attention: Callable[[Step], Sequence[str]] | None = None

    #: Files of their own, and what could not be read for them.
    pages: Callable[[Record, Sequence[Mapping[str, Any]]], Sequence[Page]] | None = None
    notes: Callable[[Record], Sequence[str]] | None = None
    #: What later runs want to know of this one beside its totals.
    kept: Callable[[Record], Mapping[str, Any]] | None = None
    #: Metrics that outlast the run, and what a host's steps say of them; what is not known keeps its earlier value.
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    lasting: Callable[[Sequence[Step]], Mapping[str, Value]] | None = None
    #: What the board shows of them.
    gauge: Gauge | None = None


# --- parts of sections ------------------------------------------------------------------------------------------------


def lists(figures: Figures, key: str) -> list[Mapping[str, Any]]:
    """A list of objects in a result; empty where it is anything else."""
    found = figures.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []


def summed(*figures: str, only_good: bool = False, **named: str) -> Callable[[Sequence[Step]], dict[str, float]]:
    """Totals that add figures up.

    :param only_good: of a step that is not ok nothing is counted
    :param named: totals whose figure's name alone would not say what it is about
    """
    wanted = {key: key for key in figures} | named

    def totals(steps: Sequence[Step]) -> dict[str, float]:
        found: dict[str, float] = {}
        for step in steps:
            for name, figure in wanted.items():
                value = step["figures"].get(figure)
                if is_number(value) and not (only_good and step["status"] != Status.OK):
                    found[name] = found.get(name, 0) + value
        return found

    return totals


def each_step(learn: Callable[[Step], Mapping[str, Value]]) -> Callable[[Sequence[Step]], dict[str, Value]]:
    """What steps say of lasting metrics, one by one; the last that knows counts."""

    def lasting(steps: Sequence[Step]) -> dict[str, Value]:
        return {name: value for step in steps for name, value in learn(step).items() if value is not None}

    return lasting


def ended_s(step: Step) -> float | None:
    """When a step ended, in seconds since 1970."""
    began_s = epoch_s(step["started_at"])
    return None if began_s is None else began_s + step["duration_s"]


# --- panels -----------------------------------------------------------------------------------------------------------


def grid(figures: Figures, keys: Sequence[str]) -> list[Fact]:
    """Figures by their names; what is empty, or bytes of which there were none, is left out."""
    return [
        (wording.label(key), wording.figure(key, figures[key]))
        for key in keys
        if (value := figures.get(key)) not in _NOTHING and not ("bytes" in key and value == 0)
    ]


def checks(figures: Figures) -> list[dict[str, str]]:
    """The checks of a result, each named with what was looked at where it says so."""
    return [
        {
            "name": ": ".join(filter(None, (str(each["name"]), str(each.get("subject") or "")))),
            "status": str(each["status"]),
            "msg": str(each.get("msg") or ""),
        }
        for key in _CHECKS
        for each in lists(figures, key)
        if _is_check(each)
    ]


def _is_check(entry: Mapping[str, Any]) -> bool:
    return "name" in entry and "status" in entry


def table(title: str, entries: Sequence[Mapping[str, Any]], columns: Mapping[str, str], left_out: int = 0) -> Table:
    """Entries of a list as a table; a column of numbers is set as one, and a column that is empty is left out."""
    head, keys = [], []
    for key, heading in columns.items():
        known = [value for each in entries if (value := each.get(key)) not in _NOTHING]
        if known:
            keys.append(key)
            style = "num" if all(map(is_number, known)) else "state" if key in ("state", "status") else ""
            head.append((heading, style))
    rows = [[wording.figure(key, each.get(key)) for key in keys] for each in entries[:MAX_ROWS]]
    return Table(title, head, rows, len(entries) - len(rows) + left_out, is_open=len(rows) <= OPEN_ROWS)


def course(step: Step) -> tuple[list[Chart], list[Table]]:
    """Rows or bytes over time and their speed, and the numbers of it; nothing where there were too few samples."""
    samples = [sample for sample in step["progress"] if sample["unit"] in ("rows", "bytes")]
    # One step may restore first and prove then; each has a course of its own, and the longer one is shown.
    of_course = [(sample["label"], sample["unit"]) for sample in samples]
    if not of_course:
        return [], []
    label, unit = longest = max(of_course, key=of_course.count)
    points = [
        (sample["at_s"], float(sample["done"])) for sample in samples if (sample["label"], sample["unit"]) == longest
    ]
    points = [point for index, point in enumerate(points) if index == 0 or point[1] >= points[index - 1][1]]
    if len(points) < 3:
        return [], []
    points = [(at - points[0][0], done) for at, done in points]  # a module takes a moment to begin
    in_bytes, title = unit == "bytes", unit.capitalize()
    text = wording.size if in_bytes else wording.number
    drawn = [
        Chart(
            "line", f"{title} over time", f"{label}: {unit} that were through, from the start of the step.",
            charts.line(points, text, binary=in_bytes),
        )
    ]  # fmt: skip
    speeds = charts.rates(points)
    if len(speeds) > 2:
        drawn.append(
            Chart(
                "line", f"{title} per second", f"{label}: how many {unit} went through in each second.",
                charts.line(speeds, lambda value: f"{text(value if in_bytes else round(value))}/s", binary=in_bytes),
            )
        )  # fmt: skip
    rows = [(wording.duration(at), text(done)) for at, done in points]
    return drawn, [Table("Numbers of the charts", (("After", "num"), (title, "num")), rows, is_numbers=True)]


def each_panel(build: Callable[[Step], Panel]) -> Callable[[Sequence[Step], Record, str], list[Panel]]:
    """A panel for each step."""
    return lambda steps, _record, _host: [build(step) for step in steps]


def declared(section: Section, step: Step) -> Panel:
    """The panel of a step as its section declares it."""
    figures = step["figures"]
    named = next((str(figures[key]) for key in section.named_by if figures.get(key)), "")
    drawn, numbers = course(step)
    panel = Panel(
        title=f"{section.title}: {named}" if named else section.title,
        msg=step["msg"],
        grid=grid(figures, section.figures(figures) if callable(section.figures) else section.figures),
        checks=checks(figures),
        charts=drawn,
        tables=[
            table(each.title, found, each.columns, figures.get(f"{each.figure}_left_out") or 0)
            for each in section.listings
            if (found := lists(figures, each.figure))
        ]
        + numbers,
    )
    return section.more(panel, figures) if section.more else panel


def whole(step: Step) -> Panel:
    """The panel of a step that no section knows: all that its result holds."""
    figures = step["figures"]
    facts: list[Fact] = []
    tables: list[Table] = []
    for key, value in figures.items():
        found = lists(figures, key)
        if key in _ELSEWHERE or (key in _CHECKS and found and all(map(_is_check, found))):
            continue
        label = wording.label(key)
        if found:
            columns = {name: wording.label(name) for each in found for name in each}
            listed = table(label, found, columns, figures.get(f"{key}_left_out") or 0)
            tables.append(replace(listed, is_open=False))
        elif isinstance(value, Mapping):
            inner = [(name, item) for name, item in value.items() if item not in _NOTHING]
            named = [(wording.lower_first(wording.label(name)), wording.figure(name, item)) for name, item in inner]
            facts += [(f"{label}: {name}", text) for name, text in named]
        elif value not in _NOTHING:
            facts.append((label, wording.figure(key, value)))
    drawn, numbers = course(step)
    return Panel(step["task"], step["msg"], facts, checks(figures), drawn, [*tables, *numbers])
