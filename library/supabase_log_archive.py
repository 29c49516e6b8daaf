#!/usr/bin/python
"""Module supabase_log_archive: fetch a log of a Supabase project into the archive of logs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_log_archive
short_description: Fetch a log of a Supabase project into the archive of logs
description:
  - Fetches the lines since the last run, before Supabase drops them, in spans of a day at most. Counts the lines of
    each span first, and archives it only if as many came.
  - Each archive is uploaded, read back and compared before its link is written, and the next run goes on where that
    ends; so no line is lost and none is doubled, whenever a run is stopped. A span without lines is an archive too, so
    that it can be told from one that was never fetched.
  - Where the last run was so long ago that Supabase has dropped lines since, the status is V(breach).
options:
  log:
    description:
      - The log to fetch.
    type: str
    required: true
    choices:
      - auth_logs
      - edge_logs
      - function_edge_logs
      - function_logs
      - pg_cron_logs
      - pgbouncer_logs
      - postgres_logs
      - postgrest_logs
      - realtime_logs
      - storage_logs
      - supavisor_logs
  retention_class:
    description:
      - Class of retention.
    type: str
    required: true
  kept_days:
    description:
      - How long the project's plan keeps logs, in days, 1 to 90.
    type: int
    default: 1
  settle_s:
    description:
      - Lines of the last so many seconds are left to the next run, since they may come late. 60 to 3,600.
    type: int
    default: 300
  deadline_s:
    description:
      - Time limit in seconds. After it no further span is begun. 1 to 604,800.
    type: int
    default: 3600
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state, runbook_supabase]
attributes:
  check_mode: {support: full, description: "Says which spans would be fetched. Fetches and writes nothing."}
  diff_mode: {support: full, description: Shows the plan.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Fetch the log of the database
  supabase_log_archive:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: mental-scribe-production
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    log: postgres_logs
    retention_class: audit
    kept_days: 7
"""

RETURN = r"""
msg: {description: "What was archived, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), V(breach) where lines are lost, V(unknown).", returned: always, type: str}
checks: {description: "C(gap).", returned: when the chain could be read, type: list, elements: dict}
streams:
  description:
    - What was archived, as M(log_archive) has it.
  returned: when the chain could be read
  type: list
  elements: dict
archives:
  description:
    - Archives that were made; in check mode, that would be.
  returned: when the chain could be read
  type: int
lines: {description: "Their lines.", returned: when the chain could be read, type: int}
content_bytes: {description: "Their bytes before compression.", returned: when the chain could be read, type: int}
size_bytes: {description: "Their bytes in the bucket.", returned: when the chain could be read, type: int}
fetched_until:
  description:
    - The next run goes on from there; null where nothing was fetched yet.
  returned: when the chain could be read
  type: str
duration_s: {description: "Seconds in all.", returned: when the chain could be read, type: float}
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.drivers.supabase import supabase
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.logs import chain, pulled, streams, summary
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, to_second

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

BOUNDS = {"kept_days": (1, 90), "settle_s": (60, 3600), "deadline_s": (1, 604_800)}


class Pages:
    """The lines of one window as a stream, a page at a time."""

    def __init__(self, project: supabase.Supabase, log: str, window: pulled.Window) -> None:
        self._project, self._log, self._window = project, log, window
        self._pieces = self._fetch()
        self._left = b""

    def _ask(self, sql: str) -> list[Any]:
        return list(pulled.rows(self._project.logs(sql, self._window.since, self._window.until)))

    def _fetch(self) -> Iterator[bytes]:
        try:
            wanted = int(self._ask(pulled.count_sql(self._log, self._window))[0]["lines"])
        except (LookupError, TypeError, ValueError):
            raise RunbookError(
                "Supabase does not say how many lines there are; run again.", status=Status.UNKNOWN
            ) from None
        came = 0
        while came < wanted:
            page = self._ask(pulled.page_sql(self._log, self._window, came))
            if not page:
                raise RunbookError(
                    f"log: Supabase counts {count(wanted, 'line')} of {self._log} since "
                    f"{to_second(self._window.since.isoformat())}, and gave {came}; nothing of it was archived, run "
                    "again.",
                    status=Status.UNKNOWN,
                )
            came += len(page)
            yield b"".join(pulled.lines(page))

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if not self._left:
            self._left = next(self._pieces, b"")
        if size < 0:
            size = len(self._left)
        data, self._left = self._left[:size], self._left[size:]
        return data


def fetched_until(archive: driver.Archive, project_ref: str, log: str) -> datetime | None:
    """Where the last fetch ended; None where there was none."""
    ends = [
        moment.read("until", link.content.source["until"])
        for link in archive.links()
        if link.content
        and (link.content.source.get("kind"), link.content.source.get("project_ref"), link.content.source.get("log"))
        == ("supabase", project_ref, log)
    ]
    return max(ends, default=None)


def judge(gap: pulled.Window | None) -> Check:
    """Whether lines are lost."""
    if gap is None:
        return Check.ok("gap", "It goes on where the last fetch ended.")
    since, until = (to_second(at.isoformat()) for at in (gap.since, gap.until))
    return Check.breach(
        "gap",
        f"Lines from {since} until {until} are lost, because Supabase keeps them no more; run logs.yml -t rotate every "
        "day.",
    )


def core(context: Context) -> dict[str, Any]:
    """Fetch what is new."""
    params = context.params
    context.require_bounds(BOUNDS)
    log, retention_class = params["log"], streams.check_name("retention_class", params["retention_class"])
    stream = f"supabase-{log.replace('_', '-')}"
    project = supabase.Supabase.from_params(params, read_only=True)
    archive = driver.Archive.from_params(context.params, context.run, writes=True, hide=context.hide)
    clock = Clock(params["deadline_s"])
    known = fetched_until(archive, params["project_ref"], log)
    plan = pulled.plan(known, archive.now, kept_days=params["kept_days"], settle_s=params["settle_s"])
    made: list[chain.Link] = []
    failure = None
    for window in () if context.check_mode else plan.windows:
        try:
            clock.check("what is archived stays; run again, and the next run goes on")
            origin = {
                "kind": "supabase", "project_ref": params["project_ref"], "log": log,
                "since": window.since.isoformat(), "until": window.until.isoformat(),
            }  # fmt: skip
            content = archive.keep(stream, Pages(project, log, window), origin, window.until)
            content = replace(content, first_at=window.since, last_at=window.until)
            archive.read_back(content)
            made.append(archive.add(kind="archive", stream=stream, retention_class=retention_class, content=content))
            known = window.until
        except RunbookError as error:
            failure = error
            break
        context.progress.update(f"fetch {log}", len(made), len(plan.windows), "spans")
    check = judge(plan.gap)
    lines = summary.by_stream(made)
    facts: dict[str, Any] = summary.totals(lines) | {
        "changed": bool(plan.windows) if context.check_mode else bool(made),
        "streams": lines,
        "fetched_until": known.isoformat() if known else None,
        "duration_s": round(clock.passed_s(), 3),
    }
    spans = [f"fetch {log} from {each.since.isoformat()} until {each.until.isoformat()}" for each in plan.windows]
    if context.diff:
        facts["diff"] = {"prepared": as_lines(spans)}
    if context.check_mode:
        facts["archives"] = len(spans)
        msg = f"Would fetch {log} in {count(len(spans), 'span')}."
    else:
        msg = f"{log}: {summary.sentence(summary.totals(lines), archive.url, planned=False)}"
    if failure is not None:
        raise RunbookError(
            f"{failure.message} {msg}", **(facts | {"status": failure.status, "checks": [check.result()]})
        )
    return context.conclude([check], msg=f"{check.msg} {msg}" if plan.gap else msg, **facts)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="supabase_log_archive",
        argument_spec=supabase.argument_spec()
        | driver.argument_spec()
        | {
            "log": {"type": "str", "required": True, "choices": list(pulled.SUPABASE)},
            "retention_class": {"type": "str", "required": True},
            "kept_days": {"type": "int", "default": 1},
            "settle_s": {"type": "int", "default": 300},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
