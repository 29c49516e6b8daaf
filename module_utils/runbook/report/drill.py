"""What the report of a disaster-recovery drill shows, worked out from the drill's document; the templates only set it.

A run may hold several drills, one after the other: the self-test injects one fault after the other.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.charts import tone_of
from ansible.module_utils.runbook.rules.drill import faults, figures, verdict
from ansible.module_utils.runbook.rules.drill.documents import read
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS: dict[str, str] = {Status.OK: "Passed", Status.BREACH: "Failed", Status.UNKNOWN: "Unknown"}
_MET: dict[str, str] = {Status.OK: "met", Status.BREACH: "missed", Status.UNKNOWN: "unknown"}
_WAYS = {"dump": "logical backup (dump)", "pitr": "point-in-time recovery"}
_PHASES = {
    "detect": "Detect the outage",
    "decide": "Decide on the recovery point",
    "provision": "Provision the target",
    "restore": "Restore",
    "verify": "Verify",
    "switch": "Switch the clients over",
}
#: Marks of an axis of time, in seconds.
#: A letter of an axis, and what a telephone of 400 pixels leaves of them to a chart.
_LETTER_PX, _SCREEN_PX = 6.2, 330
#: Between two texts of an axis, in per cent.
_GAP = 3.0
_MOST_TICKS = 5
_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400,
    172_800, 604_800,
)  # fmt: skip
#: Marks of an axis on which a second and a day can both be seen.
_DECADES = (0.1, 1, 10, 60, 600, 3600, 14_400, 86_400, 604_800)
#: Seconds below which such an axis does not tell.
_FLOOR_S = 0.1
#: Longer tables are in record.json.
_MAX_ROWS = 200
#: Characters of a verdict; what it names stands in full among the checks.
_VERDICT, _RESULT = 480, 200


def summary(of_host: Mapping[str, Any]) -> list[str]:
    """Both figures of a host's last drill for the end of the terminal's output; of injected faults, the found ones."""
    found, _ = documents({"hosts": {"": of_host}})
    if not found:
        return []
    if found[-1]["injected"]:
        return [_together([drill(document) for document in found])["word"]]
    measured = found[-1]["measured"]
    return [
        f"{name} {'unknown' if measured[key] is None else wording.duration(measured[key])}"
        for name, key in (("RTO", "rto_s"), ("RPO", "rpo_s"))
    ]


def documents(record: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Drills of a run in the order in which they were started, and what could not be read.

    Of a drill that several results told of, the last one counts: it knows most.
    """
    found: dict[str, dict[str, Any]] = {}
    broken: list[str] = []
    for host, of_host in record["hosts"].items():
        for step in of_host["steps"]:
            if step["figures"].get("drill") is None:
                continue
            try:
                document = read(step["figures"]["drill"], source=f"{host}, {step['task']}")
            except RunbookError as error:
                broken.append(f"This drill has no report of its own. {error.message}")
            else:
                found[document["drill_id"]] = document
    return list(found.values()), broken


def points(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the history shows of the drills of one run."""
    return [
        {key: document[key] for key in ("drill_id", "started_at", "environment", "scenario", "injected", "status")}
        | {
            "way": (document["recovery"] or {}).get("way"),
            "rto_s": document["measured"]["rto_s"],
            "rpo_s": document["measured"]["rpo_s"],
            "objectives": document["objectives"],
        }
        for document in documents(record)[0]
    ]


def page(record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Everything that the page of a run's drills shows; None where there was no drill.

    :param history: runs of the same playbook, oldest first, this one the last; ``drills`` are :func:`points`
    """
    found, _ = documents(record)
    if not found:
        return None
    drills = [drill(document) for document in found]
    whole = drills[0] if len(drills) == 1 else _together(drills)
    earlier = [point | {"directory": run.get("directory")} for run in history for point in run.get("drills") or ()]
    return {
        "record": record,
        **{key: whole[key] for key in ("title", "tone", "word")},
        "drills": drills,
        "trends": [each for key, title in (("rto", "RTO"), ("rpo", "RPO")) if (each := trend(earlier, key, title))],
        "history": [_history_row(point) for point in reversed(earlier)],
    }


def _together(drills: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Several drills are well where each with an injected fault found it, and each without was passed."""
    injected = [each for each in drills if each["injected"]]
    found, passed = (
        sum(each["as_expected"] for each in some)
        for some in (injected, [each for each in drills if not each["injected"]])
    )
    words = [f"injected faults found: {found} of {len(injected)}"] if injected else []
    if len(injected) < len(drills):
        words.append(f"{passed} of {len(drills) - len(injected)} passed")
    return {
        "title": f"{len(drills)} disaster-recovery drills",
        "tone": "ok" if found + passed == len(drills) else "failed",
        "word": ", ".join(words),
    }


def drill(document: Mapping[str, Any]) -> dict[str, Any]:
    """One drill."""
    measured, recovery = document["measured"], document["recovery"] or {}
    scenario = document["scenario"].replace("_", " ")
    facts = [
        ("Scenario", scenario),
        ("Environment", document["environment"]),
        ("Host", document["host"]),
        ("Outage declared", wording.moment(document["outage_at"])),
        ("Service verified", wording.moment(document["service_at"]) if document["service_at"] else "never"),
        ("Recovery by", _WAYS.get(recovery.get("way") or "", recovery.get("way") or wording.NONE)),
        ("Recovery point", wording.moment(recovery.get("point"))),
        ("From backup", recovery.get("backup_id") or wording.NONE),
    ]
    figures = [
        ("Acknowledged commits", wording.number(measured["acknowledged_rows"])),
        ("Of them in the copy", wording.number(measured["surviving_rows"])),
        ("Of them lost", wording.number(measured["lost_rows"])),
        ("Restored database size", wording.size(measured["database_bytes"])),
    ]
    if recovery.get("costs_s"):
        figures.append(("Lost by falling back", wording.duration(recovery["costs_s"])))
    return {
        "id": document["drill_id"],
        "title": f"Disaster-recovery drill: {scenario}",
        "scenario": scenario,
        "way": recovery.get("way") or wording.NONE,
        "tone": tone_of(document["status"]),
        "word": _WORDS[document["status"]],
        "msg": _brief(document["msg"], _VERDICT),
        "result": _brief(document["msg"], _RESULT),
        "injected": (document["injected"] or "").replace("_", " "),
        "injected_msg": _injected(document),
        "outcome": (
            _WORDS[document["status"]].lower()
            if not document["injected"]
            else "found"
            if _is_found(document)
            else "not found"
        ),
        "as_expected": _is_found(document) if document["injected"] else document["status"] == Status.OK,
        "facts": facts,
        "figures": figures,
        "objectives": objectives(document),
        "timeline": timeline(document),
        "checks": [
            {"name": check["name"].replace("_", " "), "status": check["status"], "msg": check["msg"] or ""}
            for check in sorted(document["checks"], key=lambda check: list(Status).index(check["status"]))
        ],
        # Where files were asked about, there is a check for them; older documents say nothing.
        "files": "" if (document.get("files") or {"asked": True})["asked"] else document["files"]["msg"],
        "advice": document["advice"],
        "skipped": recovery.get("skipped", [])[:_MAX_ROWS],
        # What each measured figure does not say.
        "beyond": {"rto": _estimate(document), "rpo": _attainable(document)},
        "lessons": document["lessons"] or {"path": None, "missing": []},
        # Most drills have a check for it.
        "tear_down": None if any(each["name"] == "tear_down" for each in document["checks"]) else document["tear_down"],
    }


def _brief(text: str, limit: int) -> str:
    """The beginning of a text, to the last word that has room."""
    return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} …"


def _estimate(document: Mapping[str, Any]) -> dict[str, str] | None:
    told = document["extrapolation"]
    if told is None:
        return None
    # An estimate promises nothing, so it is never green.
    tells = figures.is_telling(document["measured"]["database_bytes"], told["production_bytes"])
    beyond = told["restore_s"] > document["objectives"]["rto_s"]
    return {
        "title": "Production",
        "tone": "unknown" if not tells else "failed" if beyond else "handled",
        "msg": told["msg"],
    }


def _attainable(document: Mapping[str, Any]) -> dict[str, str] | None:
    told = document.get("attainable")
    if told is None:
        return None
    check = verdict.judge_attainable(
        figures.Objectives(document["objectives"]["rto_s"], document["objectives"]["rpo_s"]),
        figures.Attainable(told["way"], told["rpo_s"], told["msg"]),
    )
    return {"title": "In the worst case", "tone": tone_of(check.status), "msg": check.msg}


def _injected(document: Mapping[str, Any]) -> str:
    if not document["injected"]:
        return ""
    if _is_found(document):
        return "A fault was injected, and the drill found it, as it had to. It is no statement about the backups."
    return "A fault was injected, and the drill did not find it: what it calls good cannot be trusted."


def _is_found(document: Mapping[str, Any]) -> bool:
    inject = document["injected"]
    return inject in faults.FAULTS and faults.is_found(inject, document)


# --- objectives -------------------------------------------------------------------------------------------------------


def objectives(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each objective against what was measured, as a bar with a mark."""
    wanted = figures.Objectives(**{key: document["objectives"][key] for key in ("rto_s", "rpo_s")})
    measured = document["measured"]
    judged = verdict.judge(
        wanted,
        figures.Measured(**{key: measured[key] for key in figures.Measured.__dataclass_fields__}),
        [],
        elapsed_s=_elapsed_s(document),
    )
    names = {"rto": "Recovery time (RTO)", "rpo": "Recovery point (RPO)"}
    found = []
    for check in judged.objectives:
        limit, known = document["objectives"][f"{check.name}_s"], measured[f"{check.name}_s"]
        top = max(limit, known or 0) * 1.08 or 1.0
        found.append(
            {
                "key": check.name,
                "title": names[check.name],
                "tone": tone_of(check.status),
                "word": _MET[check.status],
                "msg": check.msg,
                "measured": "unknown" if known is None else wording.duration(known),
                "objective": wording.duration(limit) if limit else "0 s (no data loss)",
                "share": "" if known is None or not limit else _share(known / limit),
                "bar": None if known is None else round(max(100 * known / top, 0.6 if known else 0), 2),
                "limit": round(100 * limit / top, 2),
            }
        )
    return found


def _share(part: float) -> str:
    if part < 0.01:
        return "less than 1 %" if part else ""
    return f"{100 * part:.0f} %" if part < 2 else f"{part:,.0f} times as much"


def _elapsed_s(document: Mapping[str, Any]) -> float | None:
    return (
        None
        if document["service_at"]
        else figures.rto_s(figures.moment(document["outage_at"]), figures.moment(document["finished_at"]))
    )


# --- the phases over time ---------------------------------------------------------------------------------------------


def timeline(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The phases from the declared outage to the verified service; None where no outage was declared.

    A drill whose service never came back is drawn to the end of its last phase.
    """
    outage, service = figures.moment(document["outage_at"]), figures.moment(document["service_at"])
    timed = [
        (phase, begun, figures.moment(phase["finished_at"]))
        for phase in document["phases"]
        if (begun := figures.moment(phase["started_at"])) is not None
    ]
    ends = [when for _, begun, ended in timed for when in (begun, ended) if when is not None]
    finished = figures.moment(document["finished_at"])
    last = service or max([*ends, *([finished] if finished else [])], default=None)
    if outage is None or last is None or not timed:
        return None
    span = max((last - outage).total_seconds(), 0.001)
    parts = figures.split_rto(document["phases"], outage, service)
    rows: list[dict[str, Any]] = []
    for phase, begun, ended in timed:
        attempt = 1 + sum(row["name"] == phase["name"] for row in rows)
        label = _PHASES.get(phase["name"], phase["name"])
        start = min(max((begun - outage).total_seconds(), 0.0), span)
        end = min(max(((ended or last) - outage).total_seconds(), start), span)
        rows.append(
            {
                "name": phase["name"],
                "label": label if attempt == 1 else f"{label} (attempt {attempt})",
                "tone": tone_of(phase["status"]),
                "status": phase["status"],
                "value": wording.duration(end - start) if ended else "not finished",
                "share": f"{100 * (end - start) / span:.0f} %",
                "x": round(100 * start / span, 2),
                "width": round(max(100 * (end - start) / span, 0.5), 2),
                "began": wording.duration(start),
                "msg": phase["msg"] or "",
            }
        )
    return {
        "rows": rows,
        "ticks": ticks(span),
        "total": wording.duration(span),
        "between": wording.duration(parts[figures.BETWEEN]) if parts else wording.NONE,
        "outage": wording.moment(document["outage_at"])[11:],
        "end": f"service verified {wording.moment(document['service_at'])[11:]}" if service else "no verified service",
        "verified": service is not None,
    }


def ticks(span: float) -> list[dict[str, Any]]:
    """Marks of an axis of ``span`` seconds, in per cent, whose texts do not touch each other, nor that of the end.

    >>> [tick["text"] for tick in ticks(52)], [tick["text"] for tick in ticks(4510)]
    (['0 s', '15 s', '30 s'], ['0 s', '30 min'])
    """
    for step in (*(each for each in _STEPS if span / each <= _MOST_TICKS), span):
        marks = [index * step for index in range(math.floor(span / step) + 1)]
        width = max(_width(_mark(at)) for at in marks)
        if 100 * step / span >= width + _GAP:
            break
    end = 100 - _width(wording.duration(span)) - _GAP
    shown = [(round(100 * at / span, 2), _mark(at)) for at in marks]
    return [{"x": x, "text": text} for x, text in shown if x + (_width(text) / 2 if x else _width(text)) <= end]


def _width(text: str) -> float:
    """Of a text on an axis, in per cent of the narrowest screen."""
    return 100 * _LETTER_PX * len(text) / _SCREEN_PX


def _mark(seconds: float) -> str:
    return "0 s" if seconds == 0 else f"{seconds:g} s" if seconds < 60 else wording.duration(seconds)


# --- earlier drills ---------------------------------------------------------------------------------------------------


def trend(drills: Sequence[Mapping[str, Any]], key: str, title: str) -> dict[str, Any] | None:
    """RTO or RPO of the drills against its objective, on a logarithmic axis, since seconds stand beside hours.

    Drills with an injected fault are left out: they have to fail. What is unknown stands at the top, for it may be any.

    :param key: ``rto`` or ``rpo``
    :return: None for fewer than two drills
    """
    shown = [each for each in drills if not each["injected"]]
    if len(shown) < 2:
        return None
    values = [each[f"{key}_s"] for each in shown]
    limits = [each["objectives"][f"{key}_s"] for each in shown]
    known = [max(value, _FLOOR_S) for value in (*values, *limits) if value is not None]
    low = max((mark for mark in _DECADES if mark <= min(known)), default=_FLOOR_S)
    high = next((mark for mark in _DECADES if mark > max(known)), max(known) * 2)

    def height(seconds: float) -> float:
        part = math.log(max(seconds, low) / low) / math.log(high / low)
        return round(100 - 100 * min(part, 1.0), 2)

    at = [round(3 + 94 * index / (len(shown) - 1), 2) for index in range(len(shown))]
    dots = [
        {
            "x": x,
            "y": 0 if value is None else height(value),
            "tone": "unknown" if value is None else "failed" if value > limit else "ok",
            "title": f"{wording.moment(each['started_at'])}, {each['scenario'].replace('_', ' ')}: "
            f"{title} {'unknown' if value is None else wording.duration(value)}, objective {wording.duration(limit)}",
        }
        for each, x, value, limit in zip(shown, at, values, limits, strict=True)
    ]
    path = [f"{10 * dot['x']:g} {dot['y']:g}" for dot, value in zip(dots, values, strict=True) if value is not None]
    edges = [0.0, *[round((a + b) / 2, 2) for a, b in pairwise(at)], 100.0]
    steps = [
        f"{10 * edge:g} {height(limit):g}"
        for index, limit in enumerate(limits)
        for edge in (edges[index], edges[index + 1])
    ]
    marks: list[dict[str, Any]] = []
    for mark in _DECADES:  # letters need an eighth of the height
        if low <= mark <= high and (not marks or marks[-1]["y"] - height(mark) >= 13):
            marks.append({"y": height(mark), "text": _mark(mark)})
    return {
        "key": key,
        "title": title,
        "latest": "unknown" if values[-1] is None else wording.duration(values[-1]),
        "objective": wording.duration(limits[-1]),
        "path": "M" + " L".join(path) if len(path) > 1 else "",
        "limit": "M" + " L".join(steps),
        "dots": dots,
        "marks": marks,
        "first": wording.moment(shown[0]["started_at"])[:10],
        "last": wording.moment(shown[-1]["started_at"])[:10],
    }


def _history_row(point: Mapping[str, Any]) -> dict[str, Any]:
    wanted = point["objectives"]
    return {
        "directory": point["directory"],
        "started": wording.moment(point["started_at"]),
        "tone": tone_of(point["status"]),
        "word": _WORDS[point["status"]].lower(),
        "scenario": point["scenario"].replace("_", " "),
        "injected": (point["injected"] or "").replace("_", " "),
        "way": point["way"] or wording.NONE,
        **{
            key: f"{'unknown' if point[f'{key}_s'] is None else wording.duration(point[f'{key}_s'])}"
            f" of {wording.duration(wanted[f'{key}_s'])}"
            for key in ("rto", "rpo")
        },
    }
