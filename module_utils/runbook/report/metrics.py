"""A record as metrics for node_exporter's textfile collector (Prometheus text format 0.0.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.places import environment_of, place_of_record
from ansible.module_utils.runbook.report.sections import METRICS
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from ansible.module_utils.runbook.report.section import Value

_PREFIX = "runbook_run"
_HOST = f"{_PREFIX}_host_success"
_SEEN = f"{_PREFIX}_host_timestamp_seconds"
# The label job is Prometheus' own.
_JOB = "runbook_job_last_success_timestamp_seconds"
#: Seconds for which a host is remembered that no run had: a quarter and some days.
_REMEMBERED_S = 100 * 86_400
_LINE = re.compile(r'(?P<series>(?P<name>\w+)\{(?:[^"]|"(?:[^"\\]|\\.)*")*\}) (?P<value>\S+)')
_LABEL = re.compile(r'[{,](?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')


def escaped(value: object) -> str:
    r"""A label's value: backslash, double quote and line feed escaped.

    >>> print(escaped('a "b" \\ c'))
    a \"b\" \\ c
    """
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metric_name(figure: str) -> str:
    """The metric of a figure, its unit spelt out as Prometheus wants it.

    >>> metric_name("longest_batch_s"), metric_name("moved_rows")
    ('runbook_run_step_longest_batch_seconds', 'runbook_run_step_moved_rows')
    """
    name = re.sub(r"(rows|bytes)_s$", r"\1_per_second", figure)
    name = re.sub(r"_s$", "_seconds", name)
    name = re.sub(r"_ms$", "_milliseconds", name)
    return f"{_PREFIX}_step_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"


def successes(record: Mapping[str, Any], before: str, known: Collection[str] | None = None) -> str:
    """When a scheduled job last succeeded, by host; what this run did not reach, or did not do well, stays as it was.

    :param before: what an earlier run of the job wrote; empty where there was none
    :param known: as for :func:`merged`
    """
    said = {
        series: value
        for series, value in _read(before).get(_JOB, ("", {}))[1].items()
        if not _has_left(series, record, known)
    }
    if not record["check_mode"] and record["ended_at"] is not None:
        done = {escaped(host) for host, of_host in record["hosts"].items() if of_host["status"] == Status.OK}
        said = {series: value for series, value in said.items() if _labels(series).get("host") not in done}
        for host in sorted(record["hosts"]):
            if escaped(host) in done:
                labels = {"schedule": record["schedule"], "host": host, "inventory": place_of_record(record)}
                said[_series(_JOB, record, labels)] = repr(epoch_s(record["ended_at"]))
    text = "When the scheduled job last succeeded on the host."
    return _written({_JOB: (text, dict(sorted(said.items())))}) if said else ""


def _series(name: str, record: Mapping[str, Any], labels: Mapping[str, object]) -> str:
    """A metric with its labels, the first of which says for which environment the run was, if it was for one."""
    named = {"environment": environment_of(record), **labels}
    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in named.items() if value != "")
    return f"{name}{{{inside}}}"


def _labels(series: str) -> dict[str, str]:
    """The labels of a series, escaped as they are written."""
    return {found["name"]: found["value"] for found in _LABEL.finditer(series)}


def _has_left(series: str, record: Mapping[str, Any], known: Collection[str] | None) -> bool:
    """Whether a series is of a host that this run's inventory no longer has.

    A run with ``--limit`` forgets nobody, and none forgets a host of another inventory of its environment.
    """
    labels = _labels(series)
    return (
        known is not None
        and not record["limit"]
        and labels.get("inventory") == escaped(place_of_record(record))
        and labels.get("host") not in {escaped(host) for host in known}
    )


def metrics(record: Mapping[str, Any], lasting: Mapping[str, Mapping[str, Value]] | None = None) -> str:
    """Metrics of one run. Step figures are those of the last step of that name on that host.

    :param lasting: by host, what this run and the ones before it found out, as ``sections.lasting`` says it
    """
    families: dict[str, tuple[str, dict[str, float]]] = {}

    def put(name: str, text: str, value: float | None, **labels: object) -> None:
        if value is None:
            return
        series = _series(name, record, {"playbook": record["playbook"]} | labels)
        families.setdefault(name, (text, {}))[1][series] = value

    put(
        f"{_PREFIX}_info",
        "Always 1; its labels name the run.",
        1,
        run_id=record["run_id"],
        check_mode=str(record["check_mode"]).lower(),
        ansible_version=record["ansible_version"],
    )
    put(f"{_PREFIX}_success", "1 if the run ended and all was well, else 0.", int(record["status"] == Status.OK))
    for status in (Status.OK, "failed", Status.UNKNOWN):
        put(
            f"{_PREFIX}_status",
            "1 for the status of the run, 0 for the others.",
            int(record["status"] == status),
            status=status,
        )
    put(f"{_PREFIX}_start_timestamp_seconds", "When the run began.", epoch_s(record["started_at"]))
    put(
        f"{_PREFIX}_end_timestamp_seconds", "When the run ended; absent if it was cut off.", epoch_s(record["ended_at"])
    )
    put(f"{_PREFIX}_duration_seconds", "How long the run took.", record["duration_s"])
    for host, facts in (lasting or {}).items():
        for name, value in facts.items():
            metric = METRICS[name]
            if isinstance(value, Mapping):
                for label, one in value.items():
                    put(f"runbook_{name}", metric.text, one, host=host, **{metric.label: label})
            else:
                put(f"runbook_{name}", metric.text, value, host=host)
    for host, of_host in record["hosts"].items():
        put(
            _HOST,
            "1 if all was well on the host, else 0; also where it was not run.",
            int(of_host["status"] == Status.OK),
            host=host,
        )
        put(f"{_PREFIX}_host_not_run", "1 if the run left the host out.", int(bool(of_host["not_run"])), host=host)
        place = place_of_record(record)
        put(_SEEN, "When the run that said so ended.", epoch_s(record["last_event_at"]), host=host, inventory=place)
        for step in of_host["steps"]:
            if step["state"] == "skipped":
                continue
            labels = {"host": host, "task": step["task"], "module": step["module"]}
            put(
                f"{_PREFIX}_step_success",
                "1 if the step ended well, else 0.",
                int(step["status"] == Status.OK),
                **labels,
            )
            put(f"{_PREFIX}_step_duration_seconds", "How long the step took.", step["duration_s"], **labels)
            for key, value in step["figures"].items():
                if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "duration_s":
                    put(metric_name(key), f"Figure {key} of a step's result.", value, **labels)

    told = {
        name: (text, {sample: "NaN" if math.isnan(value) else repr(value) for sample, value in samples.items()})
        for name, (text, samples) in families.items()
    }
    return _written(told)


def _written(families: Mapping[str, tuple[str, Mapping[str, str]]]) -> str:
    """Metrics in the text format, by their names: what they mean, and the values of their series."""
    lines = []
    for name in sorted(families):
        text, samples = families[name]
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{sample} {value}" for sample, value in samples.items()]
    return "\n".join(lines) + "\n"


def _read(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The reverse of :func:`_written`; a line that is none is left out."""
    families: dict[str, tuple[str, dict[str, str]]] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, meaning = line.removeprefix("# HELP ").partition(" ")
            families[name] = meaning, {}
        elif (found := _LINE.fullmatch(line)) and found["name"] in families:
            families[found["name"]][1][found["series"]] = found["value"]
    return families


def merged(samples: str, before: str, record: Mapping[str, Any], known: Collection[str] | None = None) -> str:
    """The metrics of a run, and beside them what earlier ones said of hosts that it did not have.

    A run with ``--limit``, or a slice of a job, knows nothing of the other hosts. One that left the inventory is
    forgotten, and one that no run had for a quarter.

    :param samples: of this run
    :param before: of the latest before it, as this function returned them
    :param known: all hosts of the run's inventory; None where the run did not see all of them
    """
    families, earlier = _read(samples), _read(before)
    now = epoch_s(record["last_event_at"]) or 0.0
    seen = {
        host: float(value)
        for series, value in earlier.get(_SEEN, ("", {}))[1].items()
        if (host := _labels(series).get("host")) and not _has_left(series, record, known)
    }
    mine = {escaped(host) for host in record["hosts"]}
    kept = {host for host, at in seen.items() if host not in mine and now - at < _REMEMBERED_S}
    for name, (text, series) in earlier.items():
        for each, value in series.items():
            if _labels(each).get("host") in kept:
                families.setdefault(name, (text, {}))[1].setdefault(each, value)
    return _written(families)
