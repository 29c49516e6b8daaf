"""What an inventory has to say before an operation can be run as a change.

A change that is opened, and refused one step later for what the inventory lacks, is a ticket for nothing at two in the
morning. So what can be known of the inventory alone is known before: days before by the doctor, and at the latest by
preflight. No service is asked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import variables
from ansible.module_utils.runbook.rules.change import (
    checklist,
    error_logs,
    maintenance_mode,
    notice,
    silence,
    status_page,
    ticket,
)
from ansible.module_utils.runbook.rules.change.backend import NONE, check_options
from ansible.module_utils.runbook.rules.change.probe import Page
from ansible.module_utils.runbook.rules.change.soak import Metric, Rule
from ansible.module_utils.runbook.rules.observe.access import Access
from ansible.module_utils.runbook.rules.preflight import is_example

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.change.backend import Needs

#: Variables that are read here: by the beginning of their names, and by their names.
PREFIX = "change_"
NAMES = ("state_bucket", "state_directory", "backup_bucket")


class _Options(dict[str, Any]):
    """A module's options; what nobody gave is None."""

    def __missing__(self, name: str) -> None:
        return None


class _Service(NamedTuple):
    """A service around the work."""

    #: Which line needs it, how the names of its variables begin, and which module has them as options.
    line: str
    prefix: str
    module: str
    backends: Mapping[str, Needs]
    #: What refuses its options.
    check: Callable[[_Options], object]
    #: The inventory's options beside those of the backends, and what a task gives.
    own: tuple[str, ...] = ()
    given: Mapping[str, Any] = {}


def _check_notice(options: _Options) -> None:
    check_options(options, notice.BACKENDS)
    notice.check_mailboxes("email_from", [options["email_from"]] if options["email_from"] else [])
    notice.check_mailboxes("email_to", options["email_to"] or [])


def _check_silence(options: _Options) -> None:
    check_options(options, silence.BACKENDS)
    if options["backend"] != NONE:
        silence.read_matchers([{"is_regex": False, "is_equal": True} | each for each in options["matchers"]])


def _check_mode(options: _Options) -> None:
    check_options(options, maintenance_mode.BACKENDS)


_SERVICES = (
    _Service("ticket", "change_ticket_", "change_ticket", ticket.BACKENDS, ticket.check,
             given={"state": "opened", "title": "-", "text": "-"}),
    _Service("status_page", "change_status_page_", "change_status_page", status_page.BACKENDS, status_page.check,
             ("components",), {"state": "maintenance_scheduled", "until": "-", "text": ""}),
    _Service("incident", "change_status_page_", "change_status_page", status_page.BACKENDS, status_page.check,
             ("components",), {"state": "incident_opened", "level": "major_outage", "text": ""}),
    _Service("team", "change_notice_", "change_notice", notice.BACKENDS, _check_notice),
    _Service("silence", "change_silence_", "change_silence", silence.BACKENDS, _check_silence, ("matchers",)),
    _Service("maintenance_mode", "change_mode_", "maintenance_mode", maintenance_mode.BACKENDS, _check_mode),
    _Service("error_logs_before", "change_error_logs_", "change_error_logs", error_logs.BACKENDS, error_logs.check,
             ("max_ratio", "min_errors", "min_span_s")),
)  # fmt: skip
#: By its variable, the lines that look at it.
_LOOKS = {
    "change_health_pages": ("health", "resolution", "function", "soak"),
    "change_function_pages": ("function", "soak"),
    "change_smoke_queries": ("health", "resolution", "function"),
    "change_soak_metrics": ("soak",),
    "change_soak_prometheus_url": ("soak",),
}
#: How names of variables end that hold queries and patterns, which may have <names> of their own.
QUERIES = ("_query", "_queries", "_metrics", "_pattern", "_sql")
_SOAK = ("abort_share", "min_samples", "duration_s", "interval_s")
_PROMETHEUS = ("prometheus_url", *Access.options("prometheus"))


def lacks(needs: Container[str], said: Mapping[str, Any]) -> list[str]:
    """What the inventory lacks for the lines that an operation has to do; each one sentence with the fix.

    :param needs: lines of the checklists; none of them is no change, which lacks nothing
    :param said: values of the variables of :data:`PREFIX` and :data:`NAMES`, by their names; with the defaults of the
        role ``change``
    """
    found = [*_state(said)]
    for line in ("backup", "snapshot"):
        if line in needs and not said.get("backup_bucket"):
            found.append("backup_bucket: it is not set, and a change needs a backup; name the bucket of the backups.")
    for service in _SERVICES:
        if service.line in needs:
            found += _service(service, said)
    found += _looks(needs, said)
    return list(dict.fromkeys(found))


def unknowns(needs: Container[str], said: Mapping[str, Any]) -> list[str]:
    """What leaves a line unknown, and the run red, though all of it is done; each one sentence with the fix."""
    has_mode = "maintenance_mode" in needs and said.get("change_mode_backend", NONE) != NONE
    if not has_mode or said.get("change_mode_probe_url"):
        return []
    blind = (
        "change_mode_probe_url: it is not set, so nobody sees maintenance mode from outside, and its lines stay "
        "unknown; name a page as users get it, and in change_mode_probe_text what stands on the maintenance page alone."
    )
    return [blind]


def _state(said: Mapping[str, Any]) -> Iterator[str]:
    there = [name for name in ("state_bucket", "state_directory") if said.get(name)]
    if not there:
        yield (
            "state_bucket, state_directory: neither is set, and an open change has no place; name a bucket, or a "
            "folder where there is one bastion only, in group_vars/all/main.yml."
        )
    yield from _examples({name: said[name] for name in there})


def _service(service: _Service, said: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the options of one service."""
    options = {"backend", *service.own, *(name for needs in service.backends.values() for name in needs.all)}
    names = {option: service.prefix + option for option in options}
    given = _Options({option: said[name] for option, name in names.items() if name in said} | dict(service.given))
    given["backend"] = given["backend"] or NONE
    if given["backend"] not in (NONE, *service.backends):
        known = ", ".join((NONE, *service.backends))
        yield f"{names['backend']}: {given['backend']!r} is no service that there is; take one of {known}."
        return
    examples = list(_examples({name: said.get(name) for name in names.values()}))
    yield from examples or _refusals(lambda: service.check(given), names, f"{service.prefix}*", service.module)


def _looks(needs: Container[str], said: Mapping[str, Any]) -> Iterator[str]:
    """Pages, queries and metrics, by which it is seen that the application works."""
    looked = {name: said.get(name) or [] for name in _LOOKS}
    health, queries = looked["change_health_pages"], looked["change_smoke_queries"]
    pages, metrics = looked["change_function_pages"] or health, looked["change_soak_metrics"]
    by_line = {"health": health, "resolution": health, "function": pages}
    if not queries and any(line in needs and not seen for line, seen in by_line.items()):
        yield (
            "change_health_pages, change_smoke_queries: both are empty, so nobody would see whether the application "
            "works; name a page or a query."
        )
    if "soak" in needs and not (pages or metrics):
        yield (
            "change_function_pages, change_soak_metrics: both are empty, so nothing would be watched after the work; "
            "name a page, or a metric with its bounds."
        )
    wanted = [name for name, lines in _LOOKS.items() if any(line in needs for line in lines)]
    yield from _examples({name: looked[name] for name in wanted})
    for name in ("change_health_pages", "change_function_pages"):
        if name in wanted:
            yield from _refusals(partial(_check_pages, looked[name]), {"pages": name}, name, "change_probe")
    if "soak" in needs:
        names = {name: f"change_soak_{name}" for name in (*_SOAK, *_PROMETHEUS, "metrics")}
        yield from _refusals(lambda: _check_soak(metrics, pages, said), names, "change_soak_*", "change_soak")


def _check_pages(pages: Iterable[Mapping[str, Any]]) -> None:
    for each in pages:
        Page.of(each)


def _check_soak(
    metrics: Sequence[Mapping[str, Any]], pages: Sequence[Mapping[str, Any]], said: Mapping[str, Any]
) -> None:
    for each in metrics:
        Metric.of(each)
    names = [each["name"] for each in (*metrics, *pages)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RunbookError(f"metrics: {twice[0]!r} is the name of two metrics or pages; give each its own.")
    if bool(metrics) != bool(said.get("change_soak_prometheus_url")):
        raise RunbookError(
            "change_soak_prometheus_url, change_soak_metrics: one is set without the other; set both, or neither."
        )
    prometheus = {name: said.get(f"change_soak_{name}") for name in _PROMETHEUS}
    if prometheus["prometheus_url"]:
        Access.of("prometheus", prometheus, prometheus["prometheus_url"])
    Rule.of(**{name: said[f"change_soak_{name}"] for name in _SOAK})


def _refusals(check: Callable[[], object], names: dict[str, str], where: str, module: str) -> Iterator[str]:
    """The sentence of a check that refuses, with the variables in the place of the module's options."""
    try:
        check()
    except RunbookError as error:
        yield variables.told(error.message, names)
    except (AttributeError, LookupError, TypeError, ValueError):
        yield f"{where}: a value has another form than it must; see ansible-doc -t module {module}."


def _examples(values: Mapping[str, Any]) -> Iterator[str]:
    names = [name for name, value in values.items() if not name.endswith(QUERIES) and is_example(value)]
    if names:
        yield f"{', '.join(sorted(names))}: still as in the example; put your own value there."


def before(
    operation: str, environment: str, change_needs: Mapping[str, Any], read: Callable[[], Mapping[str, Any]]
) -> list[str]:
    """What :func:`lacks` says of one operation, before it begins; a mistake in ``change_needs`` is not told here.

    :param read: gives the values, and is called only where the operation is run as a change
    """
    try:
        needs = checklist.needed(operation, environment, change_needs)
    except (RunbookError, AttributeError):
        return []
    return lacks(needs, read()) if needs else []


def foretell(
    playbooks: Container[str], environment: str, said: Mapping[str, Any], group: str = "databases"
) -> list[str]:
    """What changes by these playbooks will be refused for, or end red; a sentence each, with operations.

    :param said: as for :func:`lacks`; ``change_needs`` among them
    :param group: of the inventory; what a person does to another thing than a database is looked at whatever is
        scheduled
    """
    try:
        checklist.blocking("", said.get("change_blocks") or {})
        needs = {
            operation: checklist.needed(operation, environment, said.get("change_needs") or {})
            for operation, known in checklist.OPERATIONS.items()
            # Nobody is paged for a sandbox.
            if (operation.partition(" ")[0] in playbooks or group != "databases")
            and known.group == group
            and (operation, environment) != (checklist.EMERGENCY, "sandbox")
        }
    except RunbookError as error:
        return [error.message]
    except AttributeError:
        return ["change_needs, change_blocks: one of them is no dictionary; write lines below it, as name: value."]
    found: dict[str, list[str]] = {}
    for operation, lines in needs.items():
        for sentence in (*lacks(lines, said), *unknowns(lines, said)) if lines else ():
            found.setdefault(sentence, []).append(operation)
    return [f"{sentence} Needed by {', '.join(operations)}." for sentence, operations in found.items()]


def refusal(operation: str, lacking: Iterable[str]) -> str:
    """What is said of a run that cannot be a change yet."""
    without = "" if operation == checklist.EMERGENCY else ", and how change_needs takes a line out, or all"
    return (
        f"{operation} is run as a change, and the inventory lacks what that needs. {' '.join(lacking)} "
        f"docs/howto/change.md shows it{without}."
    )
