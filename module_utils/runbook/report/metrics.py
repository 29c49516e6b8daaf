"""A record as metrics for node_exporter's textfile collector (Prometheus text format 0.0.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.sections import METRICS
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.report.section import Value

_PREFIX = "runbook_run"


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


def successes(record: Mapping[str, Any], before: str) -> str:
    """When a scheduled job last succeeded, by host; what this run did not reach, or did not do well, stays as it was.

    :param before: what an earlier run of the job wrote; empty where there was none
    """
    # The label job is Prometheus' own.
    name = "runbook_job_last_success_timestamp_seconds"
    said = {line.rpartition(" ")[0]: line for line in before.splitlines() if line and not line.startswith("#")}
    if not record["check_mode"] and record["ended_at"] is not None:
        for host, of_host in record["hosts"].items():
            if of_host["status"] == Status.OK:
                sample = f'{name}{{schedule="{escaped(record["schedule"])}",host="{escaped(host)}"}}'
                said[sample] = f"{sample} {epoch_s(record['ended_at'])!r}"
    head = [f"# HELP {name} When the scheduled job last succeeded on the host.", f"# TYPE {name} gauge"]
    return "\n".join([*head, *sorted(said.values()), ""]) if said else ""


def metrics(record: Mapping[str, Any], lasting: Mapping[str, Mapping[str, Value]] | None = None) -> str:
    """Metrics of one run. Step figures are those of the last step of that name on that host.

    :param lasting: by host, what this run and the ones before it found out, as ``sections.lasting`` says it
    """
    families: dict[str, tuple[str, dict[str, float]]] = {}

    def put(name: str, text: str, value: float | None, **labels: object) -> None:
        if value is None:
            return
        named = {"playbook": record["playbook"]} | labels
        inside = ",".join(f'{key}="{escaped(item)}"' for key, item in named.items())
        families.setdefault(name, (text, {}))[1][f"{name}{{{inside}}}"] = value

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
            f"{_PREFIX}_host_success",
            "1 if all was well on the host, else 0.",
            int(of_host["status"] == Status.OK),
            host=host,
        )
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

    lines = []
    for name in sorted(families):
        text, samples = families[name]
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{sample} {'NaN' if math.isnan(value) else repr(value)}" for sample, value in samples.items()]
    return "\n".join(lines) + "\n"
