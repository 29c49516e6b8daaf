"""Where it is told what a cache answered by itself: Vercel's measurements, a web server's log, headers of answers."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.web.site import Site

#: Path, the cache's status, number of requests.
Row = tuple[str, str, int]
_FIXES = {
    402: "the plan has no Observability Plus",
    403: "check the token's rights and vercel_team_id",
    404: "the project or its Observability Plus is not there; check vercel_project_id and vercel_team_id",
}


def of_vercel(params: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    """What Vercel counted, which its Observability Plus does.

    :param asked: see ``rules/web/cdn.question``
    :raises RunbookError: ``unknown``, it does not tell
    """
    api = ApiClient(
        service="Vercel", base_url=params["vercel_api_url"],
        headers={"Authorization": f"Bearer {params['vercel_access_token']}"},
        secrets={"vercel_access_token": params["vercel_access_token"]}, read_only=True, timeout_s=params["timeout_s"],
        reset_headers=("x-ratelimit-reset",), fixes=_FIXES,
        options=("vercel_api_url", ""),
    )  # fmt: skip
    try:
        return api.ask("/v2/observability/query", asked, (("teamId", params["vercel_team_id"]),))
    except ApiError as error:
        raise RunbookError(error.message, status=Status.UNKNOWN) from None


def of_log(paths: Sequence[str], pattern: re.Pattern[str], tick: Callable[[int], None]) -> Iterator[Row]:
    """What a web server wrote down; a file may be compressed by gzip.

    :param tick: is told how many lines were read, and may raise
    :raises RunbookError: ``unknown``, a file cannot be read, or no line of it is as the pattern says
    """
    for name in paths:
        path = Path(name)
        lines = known = 0
        try:
            with (
                gzip.open(path, "rt", errors="replace") if path.suffix == ".gz" else path.open(errors="replace") as file
            ):
                for line in file:
                    lines += 1
                    if lines % 10_000 == 0:
                        tick(lines)
                    found = pattern.search(line)
                    if found is None:
                        continue
                    known += 1
                    asked = _path(found["path"])
                    if asked:
                        yield asked, found.groupdict().get("cache") or "", 1
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise RunbookError(f"access_logs: {path} cannot be read: {why}", status=Status.UNKNOWN) from None
        if lines and not known:
            raise RunbookError(
                f"access_logs: none of {count(lines, 'line')} of {path} is as log_pattern says; let the server log "
                "the status of its cache, or give the pattern of its lines",
                status=Status.UNKNOWN,
            )


def _path(address: str) -> str:
    """Empty for an address that is none, as those send who look for holes."""
    try:
        return urlsplit(address).path
    except ValueError:
        return ""


def of_headers(site: Site, urls: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Paths, and the headers of the second of two answers: the first may only have filled the cache.

    :raises RunbookError: ``unknown``, one does not answer
    """
    for url in urls:
        site.get(url, again=True)
        yield urlsplit(url).path, site.get(url, again=True).headers
