"""Whether a page is as it must be: status, text, and the version that it says it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_address


@dataclass(frozen=True)
class Page:
    """One page, and what it has to answer."""

    name: str
    url: str
    status: int = 200
    text: str = ""
    #: The version that has to be served; empty where it does not matter.
    version: str = ""
    #: Where it stands: a header, or the path of a field of the JSON, its parts separated by dots.
    version_header: str = ""
    version_field: str = ""
    #: Who is trusted for it; the system's own authorities where it is empty.
    ca_cert: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Page:
        """As a module's option says.

        :raises RunbookError: the address is none, or a version without the one place where it stands
        """
        made = cls(**{name: value for name, value in given.items() if value is not None})
        check_address(f"pages: {made.name}: url", made.url)
        places = bool(made.version_header) + bool(made.version_field)
        if places != bool(made.version):
            raise RunbookError(
                f"pages: {made.name}: a version needs version_header or version_field, one of them; and either of them "
                "a version."
            )
        return made

    def lacks(self, status: int, headers: Mapping[str, str], body: str) -> str:
        """What is not as it must be; empty where all is.

        :param headers: names in lower case
        """
        if status != self.status:
            return f"answers with {status} instead of {self.status}"
        if self.text not in body:
            return "does not hold the text that it must"
        if not self.version:
            return ""
        found = headers.get(self.version_header.lower()) if self.version_header else _field(body, self.version_field)
        if found is None:
            return f"does not say its version in {self.version_header or self.version_field}"
        return "" if found == self.version else f"serves version {found[:80]!r} instead of {self.version!r}"


def _field(body: str, path: str) -> str | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, (str, int, float)) and not isinstance(found, bool) else None
