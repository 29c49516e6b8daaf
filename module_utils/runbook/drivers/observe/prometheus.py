"""The API of a Prometheus, which is only read.

An empty answer is no zero: what it means is left to whoever asks. Where samples may be missing, since Prometheus said
so with a warning, where it gave no answer, and where the answer cannot be read, it is ``unknown`` and an error.

The API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from ansible.module_utils.runbook.drivers.http.api_client import TOO_LARGE, ApiError
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe.series import Rule, Series
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient

#: Code of the error where it gives no answer, however often it is asked.
SILENT = "silent"
#: Code of the error where the query is none, or more than it can answer.
REFUSED = "refused"
#: Samples of a series in one answer; Prometheus gives at most 11,000.
_POINTS = 10_000
#: Values of all series of a query that this process keeps: some 300 MB.
_MOST_VALUES = 2_000_000
#: Longer than this a question does not fit every server's idea of an address, and goes into a body.
_LONG = 1_500


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name it; ``doc_fragments/runbook_prometheus.py`` tells them."""
    return {
        "prometheus_url": {"type": "str"},
        **access.argument_spec("prometheus"),
        "prometheus_ca_cert": {"type": "path"},
    }


class Prometheus:
    """One Prometheus; once it gave no answer, it is not asked again."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._silent: RunbookError | None = None

    @classmethod
    def from_params(cls, params: Any, *, timeout_s: float) -> Prometheus:
        """The one that a module's options name.

        :raises RunbookError: none is named; as :func:`access.client`
        """
        if not params["prometheus_url"]:
            raise RunbookError("prometheus_url: it is empty; give the address of Prometheus.")
        return cls(access.client("prometheus", params, timeout_s=timeout_s))

    def now(self, query: str, *, at: datetime) -> list[Series]:
        """The values of a query at a moment, a sample each; of a range, as in ``up[5m]``, all of its samples.

        :raises RunbookError: ``unknown``
        """
        said = self._asked("/api/v1/query", (("query", query), ("time", f"{at.timestamp():.3f}")))
        with _Reading("a query"):
            data = said["data"]
            if data["resultType"] == "scalar":
                return [Series({}, (_point(data["result"]),))]
            return [
                Series(each["metric"], tuple(map(_point, each["values"] if "values" in each else [each["value"]])))
                for each in data["result"]
            ]

    def over_time(self, query: str, *, begin: datetime, end: datetime, step_s: float) -> list[Series]:
        """The values of a query at equal steps, from ``begin`` to ``end``; a step without a value is left out.

        A long time is asked for piece by piece, of as many steps as one answer has room for. What it has not kept is
        not there, and it does not say so: see :meth:`first_sample`.

        :raises RunbookError: ``unknown``
        """
        found: dict[Any, Series] = {}
        first_s, last_s = begin.timestamp(), end.timestamp()
        steps, values = _POINTS, 0
        while first_s <= last_s:
            until_s = min(last_s, first_s + steps * step_s)
            span = (("start", f"{first_s:.3f}"), ("end", f"{until_s:.3f}"), ("step", f"{step_s:g}"))
            try:
                said = self._asked("/api/v1/query_range", (("query", query), *span))
            except RunbookError as error:
                if error.code != TOO_LARGE or steps == 0:
                    raise
                steps = int((until_s - first_s) / step_s) // 2
                continue
            with _Reading("a query"):
                for each in said["data"]["result"]:
                    piece = Series(each["metric"], tuple(map(_point, each["values"])))
                    before = found.get(piece.key)
                    found[piece.key] = Series(piece.labels, before.points + piece.points) if before else piece
                    values += len(piece.points)
            if values > _MOST_VALUES:
                raise RunbookError(
                    f"Prometheus has more than {count(_MOST_VALUES, 'value')} of a query; ask for fewer days, or "
                    "for fewer series.",
                    status=Status.UNKNOWN,
                    code=TOO_LARGE,
                )
            first_s += (steps + 1) * step_s
        return list(found.values())

    def series(self, *matchers: str, begin: datetime, end: datetime) -> list[dict[str, str]]:
        """Labels of the series that have samples in that time, its name as ``__name__``.

        :raises RunbookError: ``unknown``
        """
        said = self._asked("/api/v1/series", (*(("match[]", each) for each in matchers), *_span(begin, end)))
        with _Reading("a list of series"):
            return [{str(name): str(value) for name, value in each.items()} for each in said["data"]]

    def label_values(self, label: str, *matchers: str, begin: datetime, end: datetime) -> set[str]:
        """Values of a label in that time; those of ``__name__`` are the metrics that there are.

        Prometheus names what any block has that the time touches, which may be some weeks more.

        :raises RunbookError: ``unknown``
        """
        pairs = (*(("match[]", each) for each in matchers), *_span(begin, end))
        said = self._asked(f"/api/v1/label/{label}/values", pairs, in_address=True)
        with _Reading("values of a label"):
            return set(map(str, said["data"]))

    def rules(self) -> list[Rule]:
        """All rules, in the order of their files.

        :raises RunbookError: ``unknown``
        """
        said = self._asked("/api/v1/rules", (), in_address=True)
        with _Reading("a list of rules"):
            return [Rule.of(group, rule) for group in said["data"]["groups"] for rule in group["rules"]]

    def external_labels(self) -> dict[str, str]:
        """Labels that it gives its alerts, and not its own series.

        :raises RunbookError: ``unknown``
        """
        said = self._asked("/api/v1/status/config", (), in_address=True)
        with _Reading("its configuration"):
            found = (yaml.safe_load(said["data"]["yaml"]).get("global") or {}).get("external_labels") or {}
            return {str(name): str(value) for name, value in found.items()}

    def first_sample(self, *, begin: datetime, end: datetime, step_s: float) -> float | None:
        """When the oldest sample of any target in that time was, in seconds since 1970; None where there is none.

        :raises RunbookError: ``unknown``
        """
        found = self.over_time("count(up)", begin=begin, end=end, step_s=step_s)
        return found[0].points[0][0] if found else None

    def _asked(self, path: str, pairs: Sequence[tuple[str, str]], *, in_address: bool = False) -> dict[str, Any]:
        if self._silent is not None:
            raise self._silent
        long = not in_address and sum(len(value) for _, value in pairs) > _LONG
        try:
            said = self._api.ask_form(path, tuple(pairs)) if long else self._api.get(path, tuple(pairs))
        except ApiError as error:
            code = REFUSED if error.http_status in (400, 422) else error.code or SILENT
            told = RunbookError(error.message, status=Status.UNKNOWN, code=code)
            self._silent = told if code == SILENT else None
            raise told from None
        if not isinstance(said, dict) or said.get("status") != "success":
            raise _unreadable("a query")
        if said.get("warnings"):
            raise RunbookError(
                "Prometheus answered with a warning, so samples may be missing; try the query in its own page.",
                status=Status.UNKNOWN,
            )
        return said


class _Reading:
    """What stands in the block reads an answer; one that is none is ``unknown``."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(
            kind, (AttributeError, LookupError, TypeError, ValueError, OverflowError, yaml.YAMLError)
        ):
            raise _unreadable(self._what) from None


def _unreadable(what: str) -> RunbookError:
    return RunbookError(f"Prometheus answered with something that is no result of {what}.", status=Status.UNKNOWN)


def _point(said: Sequence[Any]) -> tuple[float, float]:
    at, value = said
    return float(at), float(value)


def _span(begin: datetime, end: datetime) -> Iterator[tuple[str, str]]:
    yield "start", f"{begin.timestamp():.3f}"
    yield "end", f"{end.timestamp():.3f}"
