"""The files that engines read, as text: units of systemd, workflows of GitHub and GitLab, rules of Prometheus.

No secret is in them. A file that is made here says so in its first line, by which it is known again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.schedule import alerts, engines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.schedule.schedule import Schedule

ENGINES = ("systemd", "github", "gitlab", "prometheus")
#: The first line of each file.
MARK = "# Made by playbooks/schedules.yml from schedule_jobs; what is changed here is lost."
#: What starts and stops all timers together.
TARGET = "runbook.target"
#: Seconds between SIGTERM and SIGKILL: a run rolls back, gives leases back, and writes its report.
STOP_S = 300
#: The file of each engine that has one alone.
_ONE_FILE = {"github": "runbook-schedules.yml", "gitlab": "runbook.gitlab-ci.yml", "prometheus": "schedules.yml"}
#: In what :func:`command` makes.
_INVENTORY = re.compile(r"ansible-playbook -i (\S+) playbooks/")
#: In what :func:`alerts.rules` makes.
_ENVIRONMENT = re.compile(rf'{alerts.METRIC}\{{environment="([^"]+)"')


@dataclass(frozen=True)
class Place:
    """Where an engine finds the project, and as whom it runs it; paths are absolute."""

    project: str
    #: As ``-i`` names it, from the project's root.
    inventory: str
    environment: str
    user: str = "runbook"
    #: A file with ``ANSIBLE_VAULT_PASSWORD_FILE=``, read by systemd alone.
    environment_file: str = "/etc/runbook/environment"
    #: Folders that a run may write to, besides its own state.
    write_paths: tuple[str, ...] = ()


def command(schedule: Schedule, place: Place) -> str:
    """The run, from the project's root."""
    tags = f" -t {','.join(schedule.tags)}" if schedule.tags else ""
    said = "".join(f" -e {name}={str(value).lower()}" for name, value in schedule.extra_vars.items())
    return f"ansible-playbook -i {place.inventory} playbooks/{schedule.playbook}{tags}{said}"


def inventories(texts: Iterable[str]) -> set[str]:
    """The inventories whose jobs files of ours start."""
    return {found for text in texts for found in _INVENTORY.findall(text)}


def environments(texts: Iterable[str]) -> set[str]:
    """The environments whose jobs alerts of ours are about.

    >>> environments(['absent(runbook_job_last_success_timestamp_seconds{environment="staging",schedule="x"})'])
    {'staging'}
    """
    return {found for text in texts for found in _ENVIRONMENT.findall(text)}


def is_of(engine: str, name: str) -> bool:
    """Whether a file of ours is one of that engine: a folder may have those of another.

    >>> is_of("systemd", "runbook-capacity.timer"), is_of("gitlab", "runbook-schedules.yml")
    (True, False)
    """
    return name.endswith((".service", ".timer", ".target")) if engine == "systemd" else name == _ONE_FILE[engine]


def files(engine: str, schedules: Mapping[str, Schedule], place: Place) -> dict[str, str]:
    """The files of an engine by their names; a job that is disabled has none."""
    enabled = [each for each in schedules.values() if each.enabled]
    if engine == "systemd":
        return units(enabled, place)
    if engine == "github":
        return {_ONE_FILE[engine]: github(enabled, place)}
    if engine == "prometheus":
        return {_ONE_FILE[engine]: f"{MARK}\n{alerts.rules(enabled, place.environment)}"}
    return {_ONE_FILE[engine]: gitlab(enabled, place)}


# --- systemd ----------------------------------------------------------------------------------------------------------


def units(schedules: Sequence[Schedule], place: Place) -> dict[str, str]:
    """A service and a timer for each job, and a target for all timers."""
    made: dict[str, str] = {}
    for schedule in schedules:
        made[f"runbook-{schedule.job}.service"] = _service(schedule, place)
        made[f"runbook-{schedule.job}.timer"] = _timer(schedule)
    timers = [name for name in made if name.endswith(".timer")]
    made[TARGET] = "\n".join([
        MARK, "[Unit]", "Description=Scheduled jobs of the runbook", *(f"Wants={name}" for name in timers), "",
        "[Install]", "WantedBy=multi-user.target", "",
    ])  # fmt: skip
    return made


def _service(schedule: Schedule, place: Place) -> str:
    state = "/var/lib/runbook"
    path = f"{place.project}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    return f"""{MARK}
[Unit]
Description=Runbook: {schedule.job} ({schedule.shown})
Documentation=file:{place.project}/docs/howto/schedules.md
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={place.user}
WorkingDirectory={place.project}
Environment=PATH={path} HOME={state} ANSIBLE_HOME={state}/ansible PYTHONUNBUFFERED=1
EnvironmentFile={place.environment_file}
ExecStart={place.project}/.venv/bin/{command(schedule, place)}
TimeoutStartSec={int(schedule.max_duration.total_seconds())}
TimeoutStopSec={STOP_S}
KillMode=mixed
Nice=5
StateDirectory=runbook
ReadWritePaths={" ".join([f"-{place.project}/runs", *place.write_paths])}
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
NoNewPrivileges=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
UMask=0077
"""


def _timer(schedule: Schedule) -> str:
    return f"""{MARK}
[Unit]
Description=Runbook: when {schedule.job} is due
PartOf={TARGET}

[Timer]
OnCalendar={engines.calendar_event(schedule)}
AccuracySec=1s
Persistent=true

[Install]
WantedBy={TARGET}
"""


# --- CI ---------------------------------------------------------------------------------------------------------------


def _only_on(days: Sequence[int]) -> str:
    """A line of shell that ends a run on other days, which cron cannot say."""
    listed = " ".join(map(str, days))
    return f"""case " {listed} " in *" $(date -u +%-d) "*) ;; *) echo "Not due today."; exit 0 ;; esac"""


def github(schedules: Sequence[Schedule], place: Place) -> str:
    """A workflow with a job for each schedule.

    GitHub tells a run by which line of cron it was started; several jobs may share one.
    """
    crons = {job.job: engines.cron(job) for job in schedules}
    lines = [
        MARK,
        "# GitHub starts scheduled workflows late or not at all, and stops them after 60 days without a commit:",
        "# backups need another scheduler.",
        "name: runbook",
        '"on":',
        "  schedule:",
        *(f'    - cron: "{expression}"' for expression in dict.fromkeys(one.expression for one in crons.values())),
        "  workflow_dispatch:",
        "    inputs:",
        "      job:",
        "        description: The job to run now",
        "        type: choice",
        "        required: true",
        f"        options: [{', '.join(crons)}]",
        "permissions:",
        "  contents: read",
        "jobs:",
    ]
    for schedule in schedules:
        said = crons[schedule.job]
        lines += [
            f"  {schedule.job}:",
            f"    if: inputs.job == '{schedule.job}' || github.event.schedule == '{said.expression}'",
            "    runs-on: [runbook]",
            f"    timeout-minutes: {int(schedule.max_duration.total_seconds() // 60) + STOP_S // 60}",
            f"    concurrency: {{group: runbook-{schedule.job}, cancel-in-progress: false}}",
            "    steps:",
            "      - uses: actions/checkout@v4",
            "      - run: make setup",
            "      - env:",
            "          ANSIBLE_VAULT_PASSWORD_FILE: ${{ vars.RUNBOOK_VAULT_PASSWORD_FILE }}",
            "        run: |",
            *([f'          [ -n "${{{{ inputs.job }}}}" ] || {_only_on(said.days)}'] if said.days else []),
            f"          timeout {int(schedule.max_duration.total_seconds())} .venv/bin/{command(schedule, place)}",
            "      - if: always()",
            "        uses: actions/upload-artifact@v4",
            f"        with: {{name: {schedule.job}, path: runs/, if-no-files-found: ignore}}",
        ]
    return "\n".join([*lines, ""])


def gitlab(schedules: Sequence[Schedule], place: Place) -> str:
    """Jobs for ``include:``; GitLab keeps the times itself, a pipeline schedule for each job with its variable."""
    lines = [
        MARK,
        "# Make a pipeline schedule (UTC) for each job, with the variable RUNBOOK_JOB:",
        *(f"#   {engines.cron(each).expression:<16} RUNBOOK_JOB={each.job}" for each in schedules),
        "# Schedules are best effort, and end with the account of their owner: backups need another scheduler.",
        ".runbook:",
        "  tags: [runbook]",
        "  before_script: [make setup]",
        "  artifacts: {when: always, paths: [runs/]}",
    ]
    for schedule in schedules:
        said = engines.cron(schedule)
        run = f"timeout {int(schedule.max_duration.total_seconds())} .venv/bin/{command(schedule, place)}"
        lines += [
            f"{schedule.job}:",
            "  extends: .runbook",
            f"  rules: [{{if: '$RUNBOOK_JOB == \"{schedule.job}\"'}}]",
            f"  timeout: {int(schedule.max_duration.total_seconds() // 60) + STOP_S // 60} minutes",
            f"  resource_group: runbook-{schedule.job}",
            "  script:",
            "    - |",
            *([f'      [ "$CI_PIPELINE_SOURCE" != schedule ] || {_only_on(said.days)}'] if said.days else []),
            f"      {run}",
        ]
    return "\n".join([*lines, ""])
