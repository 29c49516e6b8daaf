"""What the query API of Prometheus answers, which Loki has too: values at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status


@dataclass(frozen=True)
class Vector:
    """Values of a query. No value at all is no zero: the metric is gone, or its exporter."""

    #: ``vector`` or ``scalar``; of another kind there are no values.
    kind: str
    values: tuple[float, ...]
    #: With one of them the values may lack something.
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Any) -> Self:
        """As JSON has it.

        :raises LookupError, TypeError, ValueError: it is no answer of that API
        """
        kind, result = str(said["data"]["resultType"]), said["data"]["result"]
        if kind == "scalar":
            values = [float(result[1])]
        else:
            # Loki has a null for an empty one.
            values = [float(each["value"][1]) for each in result or ()] if kind == "vector" else []
        return cls(kind, tuple(values), tuple(map(str, said.get("warnings") or ())))

    def total(self, *, empty: int | None = None) -> int:
        """All values together, where they count something; Prometheus extrapolates, so they may have fractions.

        :param empty: what no value means; None where it means nothing
        :raises RunbookError: ``unknown``, it cannot be said
        """
        if not self.values and empty is not None and self.kind == "vector":
            return empty
        if not self.values or not all(map(math.isfinite, self.values)) or min(self.values) < 0 or self.warnings:
            found = "no value" if not self.values else "a warning" if self.warnings else "a value that is no count"
            raise RunbookError(
                f"The query for errors gave {found}. The metric or its exporter may be gone; a counter that is not "
                "there before the first error becomes a zero by 'or vector(0)' in the query.",
                status=Status.UNKNOWN,
            )
        return round(sum(self.values))
