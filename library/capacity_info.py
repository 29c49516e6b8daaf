#!/usr/bin/python
"""Ansible module capacity_info: how quantities grow, and when their limits are met."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_info
short_description: Tell how quantities grow, and when their limits are met
description:
  - Reads quantities such as the size of a database, requests, files or users, forecasts each for the next quarter, and
    says when its limit is met, in the middle (p50) and one time in ten (p90).
  - The history is what a source knows of the past, and what earlier runs wrote down in the records beside this run's.
    So run it every day; what has no history yet is unknown for a month.
  - A source that does not answer is unknown, and hides no other.
  - With a file of prices it says what a month costs now and at the quarter's end, which larger step is needed by when,
    and which smaller one would do. What other operations found useless is named as what could be saved.
  - A limit that is passed, or that p50 meets within O(lead_days), is a critical finding, and makes the result a breach.
  - Changes nothing.
options:
  quantities:
    description: What is watched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name, in small letters; the file of prices and the metrics call it that.
        type: str
        required: true
      source:
        description:
          - Where it is read. V(database_size), V(table_size), V(connections) and V(sql) ask the database.
          - V(prometheus) asks O(prometheus_url), V(s3) adds up what lies in a bucket.
          - V(supabase_requests), V(supabase_function_runs) and V(supabase_disk) ask the Management API.
        type: str
        required: true
        choices:
          - database_size
          - table_size
          - connections
          - sql
          - prometheus
          - supabase_requests
          - supabase_function_runs
          - supabase_disk
          - s3
      unit:
        description: V(bytes), or what is counted, in the plural. Needed for V(sql) and V(prometheus).
        type: str
      kind:
        description:
          - Of V(prometheus) what the query gives. V(level) is there (bytes, users), V(counter) only grows, as a counter
            of requests does, of one or more series. A counter is told as a month's increase.
        type: str
        choices: [level, counter]
      limit:
        description:
          - What it may be at most, of what is counted by the month in a month. The lowest of this one, the server's own
            and that of the chosen plan holds.
        type: float
      table:
        description: Table with its schema, for V(table_size).
        type: str
      query:
        description: SQL that gives one number, for V(sql), which runs in a transaction that only reads; or PromQL.
        type: str
      bucket:
        description: Bucket, for V(s3).
        type: str
      prefix:
        description: Only what lies below it, for V(s3).
        type: str
  lead_days:
    description: How long it takes to make room, in days, 1 to 92.
    type: int
    default: 30
  prices:
    description: Plans, their limits and prices, in the form of C(roles/capacity/files/supabase.yml).
    type: dict
  chosen:
    description: Which step of each track of O(prices) is in use.
    type: dict
  environment:
    description: The environment of the inventory, by which the offered alert rules tell hosts of the same name apart.
    type: str
    required: true
  alerts_file:
    description: The file of alert rules that is in use, to compare the offered one with.
    type: path
  cold_days:
    description: Files that were last written to before so many days are called cold, 1 to 3650.
    type: int
    default: 180
  project_ref:
    description: Reference of the project at Supabase, twenty lower-case letters.
    type: str
  access_token:
    description: Token of its Management API, with the right to read analytics. Keep it in Ansible Vault.
    type: str
  api_url:
    description: Address of the Management API.
    type: str
    default: https://api.supabase.com
  region:
    description: Region of the buckets.
    type: str
  endpoint_url:
    description: Address of the S3 API, for servers other than AWS.
    type: str
  profile:
    description: Profile of the AWS configuration files to take credentials from. It excludes O(access_key).
    type: str
  access_key:
    description: Access key ID. Needs O(secret_key).
    type: str
  secret_key:
    description: Secret access key. Keep it in Ansible Vault.
    type: str
  session_token:
    description: Session token of temporary credentials.
    type: str
  aws_ca_bundle:
    description: File with the certificate authorities that the TLS connection trusts.
    type: path
  timeout_s:
    description: Longest wait for one answer of a service, in seconds, 1 to 600.
    type: int
    default: 30
  deadline_s:
    description: What was not read so many seconds after the beginning is unknown, 1 to 86400. A bucket takes a request
      for each thousand objects.
    type: int
    default: 900
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_prometheus
attributes:
  check_mode:
    description: The same in check mode, since it only reads.
    support: full
  diff_mode:
    description: Nothing changes; how the offered alert rules differ stands in RV(alerts_diff).
    support: none
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look ahead
  capacity_info:
    quantities:
      - {name: database_size, source: database_size}
      - {name: connections, source: connections}
      - {name: users, source: sql, query: SELECT count(*) FROM auth.users, unit: users}
      - {name: files, source: s3, bucket: mental-scribe-files}
      - name: requests
        source: prometheus
        query: http_requests_total{job="api"}
        kind: counter
        unit: requests
    environment: production
    prometheus_url: http://prometheus.example.com:9090
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "1 finding (1 warning) in 5 quantities: capacity_limit:connections."
status:
  description: V(breach) with a critical finding, V(unknown) where a source gave nothing, else V(ok). A history that is
    only too short leaves it V(ok).
  type: str
  returned: always
findings:
  description: Limits that are passed (V(capacity_passed)) or near (V(capacity_limit)), a step larger than needed
    (V(oversized_plan)), and what could be saved (V(saving)); in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be forecast, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
quantities:
  description: Each quantity.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Its name.
      type: str
    source:
      description: Where it was read.
      type: str
    unit:
      description: V(bytes), or what is counted.
      type: str
    kind:
      description: V(level), V(amount) or V(counter). The last two are told as a month's.
      type: str
    options:
      description: C(table), C(query), C(bucket) and C(prefix), as far as it has them.
      type: dict
    now:
      description: The newest value; null where there is none.
      type: float
    at:
      description: Its day.
      type: str
    p50:
      description: What it is at the end of the quarter, in the middle; null without a forecast.
      type: float
    p90:
      description: What it stays below nine times in ten.
      type: float
    limit:
      description: What it may be at most; null where nobody says so.
      type: float
    limit_of:
      description: Who says so.
      type: str
    limit_p50_on:
      description: On which day p50 meets the limit; null where it does not within the forecast.
      type: str
    limit_p90_on:
      description: The same of p90.
      type: str
    history_days:
      description: How many days the history has.
      type: int
    filled:
      description: How many of its values lie in gaps and were filled.
      type: int
    step_days:
      description: Days between two values, V(1) or V(7).
      type: int
    season:
      description: Steps of the season that was found, V(0) for none.
      type: int
    steps:
      description: Days on which the level jumped.
      type: list
    why_not:
      description: Why there is no forecast; empty where there is one.
      type: str
    history:
      description: Day and value, as read and as earlier runs wrote them down; the next run reads them.
      type: list
    shown:
      description: Day and value at equal steps, as many as a chart has room for.
      type: list
    forecast:
      description: Day, p50 and p90, in the same way.
      type: list
tables:
  description: The largest tables with C(name), C(size_bytes), and C(grown_bytes) since the run RV(compared_with).
  type: list
  elements: dict
  returned: always
compared_with:
  description: Name of the earlier run; null where there is none.
  type: str
  returned: always
cost_now:
  description: What a month costs now; null without prices.
  type: float
  returned: always
cost_p50:
  description: What it costs at the end of the quarter by p50, with the steps that are needed then.
  type: float
  returned: always
cost_p90:
  description: The same by p90.
  type: float
  returned: always
currency:
  description: Of the prices.
  type: str
  returned: always
prices_dated:
  description: When the prices were read.
  type: str
  returned: always
steps:
  description: Steps that are needed by the quarter's end, with C(track), C(from), C(to), C(by) and their prices.
  type: list
  elements: dict
  returned: always
alerts:
  description: The alerts that are offered, with C(alert), C(quantity), C(threshold) and C(limit).
  type: list
  elements: dict
  returned: always
alerts_file_text:
  description: The offered file of rules, line by line.
  type: list
  elements: str
  returned: always
alerts_test_text:
  description: Its tests for C(promtool test rules), line by line.
  type: list
  elements: str
  returned: always
alerts_diff:
  description: How the offered file differs from O(alerts_file), as C(diff -u) shows it.
  type: list
  elements: str
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import records
from ansible.module_utils.runbook.drivers.capacity import sources
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.observe import prometheus
from ansible.module_utils.runbook.drivers.observe.prometheus import Prometheus
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.supabase.supabase import API_URL, Supabase
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.capacity import alerts, outlook, prices, savings, series
from ansible.module_utils.runbook.rules.capacity.outlook import Limit
from ansible.module_utils.runbook.rules.capacity.quantity import OF_DATABASE, OF_SUPABASE, SOURCES, Reading, quantities
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase.supabase import Place
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.capacity.prices import Step
    from ansible.module_utils.runbook.rules.capacity.quantity import Quantity

NAME = "capacity_info"
BOUNDS = {
    "lead_days": (1, outlook.QUARTER_DAYS),
    "cold_days": (1, 3650),
    "timeout_s": (1, 600),
    "deadline_s": (1, 86_400),
}
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 200
#: How far back Prometheus is asked; what it has not kept is not there.
ASKED_DAYS = 400
LARGEST_TABLES = 20
RULES_FILE = "capacity_alerts.yml"


class Reader:
    """Reads quantities. A database is reached once, and a service that gave no answer is not asked again."""

    def __init__(self, context: Context, stack: ExitStack, now: datetime) -> None:
        self._params, self._progress, self._stack, self._now = context.params, context.progress, stack, now
        self._clock = Clock(context.params["deadline_s"])
        self._session: postgres.Session | RunbookError | None = None
        self._silent: dict[str, RunbookError] = {}

    def read(self, quantity: Quantity) -> Reading:
        """What a quantity's source gives.

        :raises RunbookError: ``unknown``, it gives nothing
        """
        self._require_time()
        if quantity.source in OF_DATABASE:
            return self._of_database(quantity)
        if quantity.source == "s3":
            return self._of_bucket(quantity)
        service, ask = (
            ("supabase", self._of_supabase) if quantity.source in OF_SUPABASE else ("prometheus", self._of_prometheus)
        )
        if service in self._silent:
            raise self._silent[service]
        try:
            return ask(quantity)
        except RunbookError as error:
            if error.code == prometheus.SILENT:
                self._silent[service] = error
            raise

    def _require_time(self) -> None:
        if self._clock.is_over():
            raise RunbookError(
                f"it was not read within the {self._params['deadline_s']} s of deadline_s; give more, or let "
                "Prometheus tell it",
                status=Status.UNKNOWN,
            )

    def session(self) -> postgres.Session:
        """The database.

        :raises RunbookError: it does not answer, or another one does
        """
        if self._session is None:
            target = postgres.Target.from_params(self._params)
            try:
                self._session = self._stack.enter_context(
                    postgres.Session(
                        target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                        purpose="capacity",
                    )
                )  # fmt: skip
            except RunbookError as error:
                self._session = error
        if isinstance(self._session, RunbookError):
            raise self._session
        return self._session

    def _of_database(self, quantity: Quantity) -> Reading:
        session, options = self.session(), quantity.options
        if quantity.source == "connections":
            used, most = sources.connections(session)
            return Reading({self._now.date(): used}, most, "max_connections")
        value = {
            "database_size": lambda: sources.database_size(session),
            "table_size": lambda: sources.table_size(session, options["table"]),
            "sql": lambda: sources.of_query(session, options["query"]),
        }[quantity.source]()
        return Reading({self._now.date(): value})

    def _of_supabase(self, quantity: Quantity) -> Reading:
        params, now = self._params, self._now
        place = Place.named(params["api_url"], params["project_ref"])
        project = Supabase(
            api_url=place.api_url, project_ref=place.project_ref, access_token=params["access_token"], ca_cert=None,
            timeout_s=params["timeout_s"], read_only=True,
        )  # fmt: skip
        if quantity.source == "supabase_disk":
            used, most = sources.disk(project)
            return Reading({now.date(): used}, most, "size of the disk")
        if quantity.source == "supabase_requests":
            return Reading(series.amounts(sources.requests(project), since=now - timedelta(days=7), until=now))
        # Of the last 24 hours, and of the day that most of them are in.
        return Reading({(now - timedelta(hours=12)).date(): sources.function_runs(project)})

    def _of_prometheus(self, quantity: Quantity) -> Reading:
        service = Prometheus.from_params(self._params, timeout_s=self._params["timeout_s"])
        found = sources.over_time(service, quantity.options["query"], days=ASKED_DAYS, now=self._now)
        if quantity.kind == "counter":
            return Reading(series.added(series.increases(each) for each in found))
        if len(found) > 1:
            raise RunbookError(
                "the query gave more than one series; add them up, or take the largest, by sum() or max()",
                status=Status.UNKNOWN,
            )
        return Reading(series.peaks(found[0]))

    def _of_bucket(self, quantity: Quantity) -> Reading:
        options = quantity.options
        store = s3.Store.from_params(self._params | {"bucket": options["bucket"]})
        prefix, before = options.get("prefix", ""), self._now - timedelta(days=self._params["cold_days"])

        def tick(done: int) -> None:
            self._require_time()
            self._progress.update(f"list {options['bucket']}", done, None, "objects")

        total, cold = sources.stored(store, prefix, cold_before=before, tick=tick)
        return Reading({self._now.date(): total}, cold_bytes=cold)


def core(context: Context) -> dict[str, Any]:
    """Read, forecast, compare."""
    params, started, now = context.params, time.monotonic(), datetime.now(UTC)
    context.require_bounds(BOUNDS)
    watched = quantities(params["quantities"])
    _require_services(params, {each.source for each in watched})
    offer, choice = _choice(params)
    in_use = _in_use(params["alerts_file"])
    today = now.date()
    compared_with, earlier = _earlier(context, NAME, "capacity") or (None, {})
    with ExitStack() as stack:
        reader = Reader(context, stack, now)
        looked = []
        for done, quantity in enumerate(watched):
            context.progress.update(quantity.name, done, len(watched), "quantities")
            looked.append(_look(reader, quantity, _kept(earlier, quantity), choice, today))
        tables = _tables(reader, watched, earlier)
    found = [one for each in looked for one in outlook.judge(each, today=today, lead_days=params["lead_days"])]
    unknown = [one for each in looked for one in outlook.unknown(each)]
    found += _saved(context, looked)
    made = alerts.rules(
        looked, environment=params["environment"], host=context.run.host or "localhost", lead_days=params["lead_days"]
    )
    rule_file = alerts.rule_file(made, lead_days=params["lead_days"])
    test_file = alerts.test_file(made, lead_days=params["lead_days"], rule_file_name=RULES_FILE)
    bill = prices.bill(offer, choice, looked) if offer else None
    if bill and offer:
        found += bill.findings
        if stale := offer.why_stale(today):
            unknown.append(Unknown("prices", stale))
    result = findings.results(found, unknown, of=count(len(watched), "quantity", "quantities"))
    result |= {
        "quantities": [each.result() for each in looked],
        "tables": tables,
        "compared_with": compared_with,
        "cost_now": bill.now if bill else None,
        "cost_p50": bill.p50 if bill else None,
        "cost_p90": bill.p90 if bill else None,
        "currency": offer.currency if offer else None,
        "prices_dated": offer.dated if offer else None,
        "steps": list(bill.steps) if bill else [],
        "alerts": [asdict(each) | {"alert": each.alert} for each in made],
        "alerts_file_text": rule_file.splitlines(),
        "alerts_test_text": test_file.splitlines(),
        "alerts_diff": alerts.difference(in_use, rule_file, name=RULES_FILE),
        "duration_s": round(time.monotonic() - started, 3),
    }
    critical = [each["msg"] for each in result["findings"] if each["severity"] == "critical"]
    # What a person has to hear at once; the report has the rest.
    result["msg"] = " ".join([result["msg"], *critical[:3]])
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


def _require_services(params: Mapping[str, Any], used: set[str]) -> None:
    """Refuse a quantity whose service is not named."""
    needed = {
        "prometheus": ("prometheus_url",),
        **dict.fromkeys(sorted(OF_SUPABASE), ("project_ref", "access_token")),
    }
    for source in sorted(used):
        for option in needed.get(source, ()):
            if not params[option]:
                raise RunbookError(f"{option}: it is empty, and a quantity has the source {source}; fill it in.")


def _choice(params: Mapping[str, Any]) -> tuple[prices.Prices | None, dict[str, Step]]:
    """The prices, and which steps are in use."""
    if not params["prices"]:
        return None, {}
    offer = prices.Prices.of(params["prices"])
    return offer, offer.choice(params["chosen"] or {})


def _kept(earlier: Mapping[str, Any], quantity: Quantity) -> dict[date, float]:
    """What the earlier run knew of a quantity, if it is the same one."""
    found: dict[date, float] = {}
    for each in earlier.get("quantities") or ():
        same = (quantity.name, quantity.source, dict(quantity.options))
        if (each.get("name"), each.get("source"), each.get("options")) == same:
            for day, value in each.get("history") or ():
                with suppress(TypeError, ValueError):
                    found[date.fromisoformat(day)] = float(value)
    return found


def _look(
    reader: Reader, quantity: Quantity, kept: Mapping[date, float], choice: Mapping[str, Step], today: date
) -> outlook.Outlook:
    """Look ahead of one. What cannot be read is unknown; another database than the pinned one is an error."""
    why_not, reading = "", Reading({})
    try:
        reading = reader.read(quantity)
    except RunbookError as error:
        if error.status is not Status.UNKNOWN:
            raise
        why_not = f"{quantity.name}: {error.message.rstrip('.')}."
    limits = [
        Limit(quantity.limit, "inventory") if quantity.limit is not None else None,
        Limit(reading.limit, reading.limit_of) if reading.limit else None,
        prices.limit_of(quantity.name, choice),
    ]
    limit = min((each for each in limits if each), key=lambda each: each.value, default=None)
    days = dict(kept) | dict(reading.days)
    return outlook.outlook(quantity, days, limit, today=today, why_not=why_not, cold_bytes=reading.cold_bytes)


def _tables(reader: Reader, watched: list[Quantity], earlier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The largest tables, and how much each grew since the earlier run; none where no database is asked."""
    if not {each.source for each in watched} & OF_DATABASE:
        return []
    before = {each.get("name"): each.get("size_bytes") for each in earlier.get("tables") or ()}
    try:
        found = sources.tables(reader.session(), LARGEST_TABLES)
    except RunbookError:
        # The quantities say so.
        return []
    return [
        {**each, "grown_bytes": each["size_bytes"] - before[each["name"]] if before.get(each["name"]) else None}
        for each in found
    ]


def _saved(context: Context, looked: list[outlook.Outlook]) -> list[findings.Finding]:
    """What other operations found, by the newest record of each."""
    found = list(savings.of_files(looked, cold_days=context.params["cold_days"]))
    for module, playbooks, read in (
        ("pg_index_info", ("performance",), savings.of_indexes),
        ("pg_bloat_info", ("performance", "monthly_db"), savings.of_bloat),
    ):
        known = [look for each in playbooks if (look := _earlier(context, module, each))]
        newest = max(known, key=lambda look: look[0], default=None)
        found += read(*newest) if newest else []
    return found


def _earlier(context: Context, module: str, playbook: str) -> tuple[str, dict[str, Any]] | None:
    """What a module gave in the newest run of a playbook for this host, with the run's name."""
    found = records.earlier(
        context.run.directory, module, host=context.run.host, playbook=playbook,
        environment=context.params["environment"],
    )  # fmt: skip
    return next(found, None)


def _in_use(path: str | None) -> str:
    """The rules that are in use; empty where none are named.

    :raises RunbookError: the file cannot be read
    """
    if not path:
        return ""
    try:
        return sources.text_of(path)
    except OSError as error:
        raise RunbookError(f"alerts_file: {path} cannot be read ({error.strerror}); correct the path.") from None


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    quantity = {
        "name": {"type": "str", "required": True},
        "source": {"type": "str", "required": True, "choices": list(SOURCES)},
        "unit": {"type": "str"},
        "kind": {"type": "str", "choices": ["level", "counter"]},
        "limit": {"type": "float"},
        "table": {"type": "str"},
        "query": {"type": "str"},
        "bucket": {"type": "str"},
        "prefix": {"type": "str"},
    }
    s3_options = {name: option for name, option in s3.argument_spec().items() if name != "bucket"}
    return (
        postgres.argument_spec()
        | s3_options
        | prometheus.argument_spec()
        | {
            "quantities": {"type": "list", "elements": "dict", "required": True, "options": quantity},
            "lead_days": {"type": "int", "default": 30},
            "environment": {"type": "str", "required": True},
            "prices": {"type": "dict"},
            "chosen": {"type": "dict"},
            "alerts_file": {"type": "path"},
            "cold_days": {"type": "int", "default": 180},
            "project_ref": {"type": "str"},
            "access_token": {"type": "str", "no_log": True},
            "api_url": {"type": "str", "default": API_URL},
            "timeout_s": {"type": "int", "default": 30},
            "deadline_s": {"type": "int", "default": 900},
        }
    )


if __name__ == "__main__":
    main()
