#!/usr/bin/python
"""Ansible module cdn_cache_info: how much a cache before the application answers by itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cdn_cache_info
short_description: Tell the hit rates of a CDN or another cache
description:
  - Tells for each class of paths which share of requests the cache answered by itself, and compares it with the least
    share that it should have. With fewer than O(min_requests) requests a class is V(unknown), and the result stays as
    the others are; where all are, it is V(unknown).
  - Paths are in no result, as they may name people.
  - The first source that tells is used, in this order. Vercel's measurements, which need Observability Plus; logs of a
    web server; headers of pages, which are asked for twice each. Why a source told nothing is said.
  - Changes nothing.
options:
  classes:
    description:
      - Classes of paths. The first whose pattern is found in a path has it; what no pattern has is not counted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Its name.
        type: str
        required: true
      pattern:
        description:
          - Regular expression.
        type: str
        required: true
      min_hit_rate:
        description:
          - The least share, 0 to 1.
        type: float
        required: true
  min_requests:
    description:
      - Fewer requests in a class say nothing, 1 to 1000000. Headers are judged by as many as there are addresses.
    type: int
    default: 100
  days:
    description:
      - How far back Vercel is asked, in days, 1 to 30.
    type: int
    default: 7
  vercel_project_id:
    description:
      - Id of the project at Vercel. Needs O(vercel_team_id) and O(vercel_access_token).
    type: str
  vercel_team_id:
    description:
      - Id of its team.
    type: str
  vercel_access_token:
    description:
      - Token with the right to read. Keep it in Ansible Vault.
    type: str
  vercel_api_url:
    description:
      - Address of Vercel's API.
    type: str
    default: https://api.vercel.com
  access_logs:
    description:
      - Logs of the web server, on this machine; C(.gz) too.
    type: list
    elements: path
    default: []
  log_pattern:
    description:
      - Regular expression of a line with the groups C(path) and C(cache). The default is nginx's combined form with
        C($upstream_cache_status) behind it.
    type: str
  sample_urls:
    description:
      - Addresses that are asked for twice, to see by their headers whether the second answer came from the cache.
    type: list
    elements: str
    default: []
extends_documentation_fragment: runbook_site
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Tell the hit rates of a web server's cache
  cdn_cache_info:
    classes:
      - {name: files with a hash, pattern: "^/assets/", min_hit_rate: 0.95}
      - {name: pages, pattern: "^/(?!api/)", min_hit_rate: 0.5}
    access_logs: [/var/log/nginx/access.log]
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a rate is too low, V(unknown) where no source told anything.
  type: str
  returned: always
findings:
  description: Rates that are too low, in the form of M(pg_index_info); C(hit_rate).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: Classes and sources of which nothing is known, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
source:
  description: Which source told; empty where none did.
  type: str
  returned: always
classes:
  description: Each class with C(name), C(hit_rate) (null without requests), C(min_hit_rate), C(requests), C(hits), and
    C(by_status).
  type: list
  elements: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.web import cache_sources, site
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.address import check_address, check_api_url
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import cdn
from ansible.module_utils.runbook.rules.web.lighthouse import is_another
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ansible.module_utils.runbook.drivers.web.cache_sources import Row

BOUNDS = site.BOUNDS | {"min_requests": (1, 1_000_000), "days": (1, 30)}


def core(context: Context) -> dict[str, Any]:
    """Ask the sources in their order, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    of = cdn.classes("classes", params["classes"])
    if not of:
        raise RunbookError("classes: it is empty; name at least one class of paths.")
    clock = Clock(params["deadline_s"])
    source, seen, silent = "", cdn.sort([], of), []
    for name, ask in sources(context, clock).items():
        try:
            seen = cdn.sort(ask(), of)
        except RunbookError as error:
            if error.status is not Status.UNKNOWN:
                raise
            silent.append(Unknown(name, f"{name}: {error.message.rstrip('.')}.", fixable=False))
            continue
        source = name
        break
    if source:
        # Of headers each address gives one request, and nobody can ask for more.
        least = 1 if source == "headers" else params["min_requests"]
        found, unknown = cdn.judge(seen, of, source=source, min_requests=least)
    else:
        found, unknown = (
            [],
            [Unknown("hit_rate", "No source told anything of the cache; mend one of them, or name another.")],
        )
    told = (
        f"{count(len(of), 'class', 'classes')} of paths by {source}" if source else count(len(of), "class", "classes")
    )
    said = findings.results(found, unknown + silent, of=told)
    return context.conclude(
        Status(said.pop("status")),
        **said,
        source=source,
        classes=[
            {
                "name": each.name, "hit_rate": _share(seen[each.name].rate), "min_hit_rate": each.least,
                "requests": seen[each.name].requests, "hits": seen[each.name].hits,
                "by_status": dict(seen[each.name].counts),
            }
            for each in of
        ],
        duration_s=round(clock.passed_s(), 1),
    )  # fmt: skip


def _share(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 4)


def sources(context: Context, clock: Clock) -> dict[str, Callable[[], list[Row]]]:
    """Sources that the options name, in the order in which they are asked.

    :raises RunbookError: there is none, or one is named halfway
    """
    params = context.params
    found: dict[str, Callable[[], list[Row]]] = {}
    of_vercel = ("vercel_project_id", "vercel_team_id", "vercel_access_token")
    if any(params[name] for name in of_vercel):
        if missing := [name for name in of_vercel if not params[name]]:
            raise RunbookError(
                f"{', '.join(missing)}: not set, and Vercel needs it; set it, or name none of {', '.join(of_vercel)}."
            )
        params["vercel_api_url"] = check_api_url(params["vercel_api_url"], "https://api.vercel.com")
        now = datetime.now(UTC)
        asked = cdn.question(
            params["vercel_project_id"], params["vercel_team_id"], now - timedelta(days=params["days"]), now
        )
        found["Vercel"] = lambda: cdn.of_vercel(cache_sources.of_vercel(params, asked))
    if params["access_logs"]:
        pattern = cdn.line_pattern("log_pattern", params["log_pattern"] or cdn.LINE)

        def tick(lines: int) -> None:
            context.progress.update("log", lines, None, "lines")
            clock.check("give it more time, or name fewer logs")

        found["log"] = lambda: list(cache_sources.of_log(params["access_logs"], pattern, tick))
    if params["sample_urls"]:
        for url in params["sample_urls"]:
            check_address("sample_urls", url)
        pages = site.Site(
            params["sample_urls"][0], clock, is_another, timeout_s=params["timeout_s"], ca_cert=params["ca_cert"]
        )
        found["headers"] = lambda: told(cache_sources.of_headers(pages, params["sample_urls"]))
    if not found:
        raise RunbookError("vercel_project_id, access_logs, sample_urls: none is set; name at least one source.")
    return found


def told(answers: Iterable[tuple[str, Mapping[str, str]]]) -> list[Row]:
    """Answers whose headers say what the cache did.

    :raises RunbookError: ``unknown``, none does
    """
    rows = [(path, status, 1) for path, headers in answers if (status := cdn.status_of(headers))]
    if not rows:
        raise RunbookError("sample_urls: no answer says anything of a cache in its headers.", status=Status.UNKNOWN)
    return rows


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    each = {
        "name": {"type": "str", "required": True},
        "pattern": {"type": "str", "required": True},
        "min_hit_rate": {"type": "float", "required": True},
    }
    return site.options() | {
        "classes": {"type": "list", "elements": "dict", "required": True, "options": each},
        "min_requests": {"type": "int", "default": 100},
        "days": {"type": "int", "default": 7},
        "vercel_project_id": {"type": "str"},
        "vercel_team_id": {"type": "str"},
        "vercel_access_token": {"type": "str", "no_log": True},
        "vercel_api_url": {"type": "str", "default": "https://api.vercel.com"},
        "access_logs": {"type": "list", "elements": "path", "default": []},
        "log_pattern": {"type": "str"},
        "sample_urls": {"type": "list", "elements": "str", "default": []},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="cdn_cache_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
