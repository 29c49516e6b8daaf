"""What an inventory must be before its first night: each thing looked at is one check, and none hides another.

Nothing here reads a file, a server or a clock. What could not be looked at is ``unknown``, never ``ok``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import variables
from ansible.module_utils.runbook.rules.change import calendar
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified
from ansible.module_utils.runbook.rules.postgres.compact import SUPERUSERS_ONLY, needs_superuser
from ansible.module_utils.runbook.rules.schedule import schedule
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import agree, all_ok, count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

#: Which user each playbook works as; of the others the bastion's own.
USER_OF = {
    "weekly_db.yml": "maintain",
    "monthly_db.yml": "maintain",
    "daily_cleanup.yml": "maintain",
    "heartbeat.yml": "maintain",
    "backup.yml": "backup",
    "performance.yml": "review",
    "restore.yml": "restore",
    "restore_swap.yml": "restore",
    "rollback.yml": "restore",
    "db_roles.yml": "admin",
}
#: Playbooks that a person runs, so that no inventory schedules them.
BY_HAND = (
    "performance.yml", "restore.yml", "restore_swap.yml", "rollback.yml", "dr_drill.yml", "emergency.yml",
    "db_roles.yml",
)  # fmt: skip

#: What a bucket of backups must be, where the inventory does not say otherwise: as M(s3_bucket_check) has it.
DEMANDS = {
    "versioning": True, "encryption": "AES256", "kms_key_id": "", "block_public_access": True, "object_lock": "none",
    "object_lock_days": 0, "replicate_to": "", "abort_multipart_days": 7, "tls_only": True, "prefix": "",
}  # fmt: skip
#: What a copy must be: its tag, and versions.
COPY = DEMANDS | {"encryption": "none", "block_public_access": False, "abort_multipart_days": 0, "tls_only": False}


def wanted(scheduled_jobs: Mapping[str, Any]) -> frozenset[str]:
    """Playbooks whose needs are looked at: those that are scheduled, and those that a person may run any day.

    Where nothing is scheduled, all are. What is wrong with a schedule, :func:`judge_jobs` says.

    :param scheduled_jobs: the inventory's ``schedule_jobs``
    """
    runs = [each for each in scheduled_jobs.values() if isinstance(each, dict) and not each.get("disabled")]
    return frozenset({*BY_HAND, *(str(each.get("playbook")) for each in runs)} if runs else USER_OF)


def is_run(scheduled_jobs: Mapping[str, Any], groups: Iterable[str], operation: str, *, otherwise: bool) -> bool:
    """Whether a job runs a playbook on a host.

    :param groups: the host's
    :param operation: the playbook's file name, and a tag that it is run with where only that one counts
    :param otherwise: the answer where nothing at all is scheduled
    """
    playbook, _, tag = operation.partition(" ")
    runs = [each for each in scheduled_jobs.values() if isinstance(each, dict) and not each.get("disabled")]
    mine = set(groups)
    return any(
        each.get("playbook") == playbook
        and mine.intersection(each.get("hosts") or ())
        and (not tag or tag in (each.get("tags") or (tag,)))
        for each in runs
    ) or (otherwise and not runs)


def users(playbooks: Iterable[str]) -> dict[str, list[str]]:
    """The users by what they are for, each with its playbooks."""
    found: dict[str, list[str]] = {}
    for playbook in sorted(playbooks):
        if playbook in USER_OF:
            found.setdefault(USER_OF[playbook], []).append(playbook)
    return found


def judge_variables(unknown: Mapping[str, str | None]) -> Check:
    """Every variable is one that there is; each of the others with the nearest."""
    if unknown:
        return Check.breach("variables", variables.refusal(unknown))
    return Check.ok("variables", "Every variable exists.")


def judge_jobs(scheduled_jobs: Mapping[str, Any], playbooks: Sequence[str]) -> Check:
    """Every scheduled job can be read, and names a playbook that there is."""
    try:
        found = schedule.read(scheduled_jobs, playbooks)
    except RunbookError as error:
        return Check.breach("jobs", f"{error.message} Until then scheduled jobs are refused at night.")
    try:
        schedule.refuse_doubles(found.values())
    except RunbookError as error:
        return Check.breach("jobs", error.message)
    if not scheduled_jobs:
        return Check.ok("jobs", "Nothing is scheduled.")
    return Check.ok("jobs", f"{count(len(scheduled_jobs), 'scheduled job')}, and each playbook is there.")


def judge_windows(
    scheduled_jobs: Mapping[str, Any], given: Mapping[str, Any], operations: Mapping[str, Any], now: datetime
) -> Check:
    """Every job that needs a maintenance window is due inside of one, each time of the coming year.

    Times of jobs are UTC, and a window may be in another time zone, whose clock changes twice a year. Freezes do not
    count: they are meant.

    :param given: ``maintenance_calendar``
    :param operations: ``maintenance_operations``
    """
    try:
        jobs = schedule.read(scheduled_jobs)
        found = calendar.read(given, operations)
    except RunbookError:
        return Check.unknown("windows", "Jobs or calendar have a mistake, which another line names.")
    unfrozen, until, outside = replace(found, freezes=()), now + timedelta(days=366), []
    for job in jobs.values() if found.windows else ():
        words = [*(said for name, said in job.variables if name.endswith("_action")), *job.tags, ""]
        known = (f"{job.playbook} {word}".strip() for word in words)
        need = next((found.operations[each] for each in known if each in found.operations), "none")
        due = schedule.occurrences(job, now, until) if job.enabled and need != "none" else []
        spans = calendar.spans(unfrozen, "", need, now, until) if due else []
        late = [at for at in due if not any(begin <= at < end for begin, end in spans)]
        if late:
            times = f"{count(len(late), 'time')} of {len(due)} in a year, first {calendar.said_at(late[0])}"
            outside.append(f"{job.job} ({times})")
    if outside:
        return Check.breach(
            "windows",
            f"Due where no window is open that they need: {some(outside)}; they are refused then. Times of jobs are "
            "UTC: move the job, or the window.",
        )
    return Check.ok("windows", "Every job that needs a window is due inside of one.")


def judge_examples(names: Sequence[str]) -> Check:
    """Every value that the examples leave open is filled in."""
    if names:
        return Check.breach("examples", f"Not filled in yet: {some(names)}; put your own values there.")
    return Check.ok("examples", "No value of the examples is left.")


def judge_unread(unread: Sequence[str]) -> Check:
    """Every variable can be read; of the others each with the reason."""
    if unread:
        return Check.breach("settings", f"Cannot be read: {some(unread)}; set what they refer to.")
    return Check.ok("settings", "Every variable can be read.")


def judge_options(refused: Sequence[str]) -> Check:
    """No role, and no module of it, would refuse a value by what it says of its options.

    :param refused: what they say
    """
    if refused:
        return Check.breach("options", f"Will be refused: {'; '.join(refused)}. Correct it in the inventory.")
    return Check.ok("options", "Every option that is looked at is there, of its type and within its bounds.")


def judge_root(is_root: bool) -> Check:
    """Commands on a server are done as root."""
    if is_root:
        return Check.ok("rights server", "Commands are done as root.")
    return Check.breach(
        "rights server",
        "Commands are not done as root, and updates.yml --tags servers installs nothing; set ansible_become: true for "
        "the group servers, or log in as root.",
    )


def judge_strays(strays: Sequence[str]) -> Check:
    """Every file of variables belongs to a group or host that there is."""
    if strays:
        return Check.breach(
            "files",
            f"No host or group is called like {some(strays)}, so Ansible never reads them; rename them, or add the "
            "group to hosts.yml.",
        )
    return Check.ok("files", "Every file of variables belongs to a host or a group.")


def judge_contacts(problems: Sequence[str]) -> Check:
    """The emergency contacts are complete, where the inventory names any or has to.

    :param problems: what is wrong with each of them
    """
    if problems:
        return Check.breach("contacts", f"{' '.join(problems)} docs/howto/emergency.md says how.")
    return Check.ok("contacts", "The emergency contacts are complete, or there need not be any.")


def judge_servers(servers: Sequence[Mapping[str, str]], environment: str) -> Check:
    """Every host of the group servers is another machine, and pinned.

    :param servers: of each its ``name``, ``connection`` and ``machine_id``
    """
    here = [each["name"] for each in servers if each["connection"] == "local" and environment != "sandbox"]
    open_ = [each["name"] for each in servers if not each["machine_id"]]
    problems = []
    if here:
        problems.append(f"{some(here)} would be this machine: set ansible_connection: ssh in group_vars/servers.")
    if open_:
        problems.append(
            f"server_machine_id is empty for {some(open_)}; updates.yml --tags servers refuses them, and names it."
        )
    if problems:
        return Check.breach("servers", " ".join(problems))
    return Check.ok("servers", f"{count(len(servers), 'server')}, each pinned." if servers else "There is none.")


def judge_changes(lacking: Sequence[str]) -> list[Check]:
    """Every operation that is run as a change has what it needs; each thing that is missing is a check.

    :param lacking: what is missing, each one sentence
    """
    wrong = [Check.breach("change", f"{each} docs/howto/change.md says how.") for each in lacking]
    return wrong or [Check.ok("change", "Whatever is run as a change has what it needs, or nothing is.")]


def judge_vault(*, locked: Sequence[str], examples: Sequence[str], plain: Sequence[str], encrypted: int) -> Check:
    """Every secret can be decrypted, is no example's, and is encrypted at all.

    :param locked: names that this run's vault passwords do not open
    :param examples: names that the published password of the examples opens
    :param plain: names of secrets that stand in the inventory as they are
    :param encrypted: encrypted values in all
    """
    found = []
    if locked:
        found.append(f"this run's vault passwords do not open {some(locked)}; name the right one with --vault-id")
    if examples:
        found.append(
            f"everybody knows the password of {some(examples)}: examples; encrypt secrets of your own "
            "(inventories/README.md)"
        )
    if plain:
        found.append(f"not encrypted: {some(plain)}; use ansible-vault encrypt_string")
    if found:
        text = ". ".join(each[0].upper() + each[1:] for each in found)
        return Check.breach("vault", f"{text}.")
    return Check.ok(
        "vault", f"{count(encrypted, 'encrypted value')}, readable." if encrypted else "No encrypted values."
    )


#: libpq's modes that go on without TLS where the server lets them.
_UNENCRYPTED = ("disable", "allow", "prefer")


def judge_unproven(name: str, ssl_mode: str, host: str, environment: str) -> Check:
    """No certificate is looked at: fine on this machine and in a sandbox, nowhere that real rows travel.

    :param host: as it is connected to; a folder with a socket begins with ``/``
    """
    here = host.startswith(("/", "127.")) or host in ("localhost", "::1")
    if here or environment == "sandbox" or ssl_mode not in _UNENCRYPTED:
        return Check.ok(name, f"ssl_mode is {ssl_mode}, and no file of authorities is looked at.")
    return Check.breach(
        name,
        f"ssl_mode is {ssl_mode}, so passwords and rows may travel to {host} unencrypted; set verify-full, and the "
        "file with the authorities in ca_cert.",
    )


def judge_end(name: str, what: str, ends_at: datetime, now: datetime, *, least_days: int, fix: str) -> Check:
    """A certificate lasts long enough.

    :param what: such as ``The server's certificate``
    :param least_days: a certificate that ends earlier is a breach
    """
    left = (ends_at - now).total_seconds() / 86_400
    when = f"{ends_at:%Y-%m-%d}"
    if left < 0:
        return Check.breach(name, f"{what} ended on {when}; {fix}.")
    if left < least_days:
        return Check.breach(name, f"{what} ends on {when}, in {count(left, 'day')}; {fix}.")
    return Check.ok(name, f"{what} lasts until {when}.")


def archives(named: Mapping[str, str | None]) -> tuple[QualifiedName, QualifiedName] | None:
    """The table whose rows are archived, and the one that they go to; None where nothing is archived.

    :raises RunbookError: a name is none
    """
    source, archive = named.get("source"), named.get("archive")
    if not source or not archive:
        return None
    return (
        parse_qualified(source, option="db_maintenance_audit_source"),
        parse_qualified(archive, option="db_maintenance_audit_archive"),
    )


def judge_rights(user: str, login: str, playbooks: Sequence[str], lacks: Sequence[str], fix: str) -> Check:
    """A user may do what its playbooks do."""
    name, named = f"rights {user}", ", ".join(playbooks)
    if lacks:
        return Check.breach(name, f"{login} lacks for {named}: {'; '.join(lacks)}. {fix}")
    return Check.ok(name, f"{login} may do what {named} need{'s' if len(playbooks) == 1 else ''}.")


def judge_client(client_version: str, client_major: int, server_version: int) -> Check:
    """pg_dump refuses a server that is newer than itself."""
    major = server_version // 10_000
    if client_major < major:
        return Check.breach(
            "client pg_dump",
            f"pg_dump {client_version} cannot dump PostgreSQL {major}; install the client programs of {major}, or "
            "name their folder in db_backup_bindir.",
        )
    return Check.ok("client pg_dump", f"pg_dump {client_version} for PostgreSQL {major}.")


def judge_repack(version: str | None, reason: str, *, offered: str | None, is_superuser: bool) -> Check:
    """pg_repack can be used, or the server has none that could be: then bloated tables wait for an outage.

    Whether that one is installed, and who has rights on it, makes no difference where it would not help.

    :param version: of program and extension; None where they cannot be used, for ``reason``
    :param offered: the version that the server offers; None: it offers none
    :param is_superuser: whether this user is one
    """
    if version and (is_superuser or not needs_superuser(version)):
        return Check.ok("pg_repack", f"Program and extension of version {version}.")
    if offered is None or (needs_superuser(offered) and not is_superuser):
        why = f"version {offered}, which the server offers, {SUPERUSERS_ONLY}" if offered else "the server offers none"
        says = f"monthly_db.yml leaves bloated tables to an outage (docs/howto/monthly.md), because {why}."
        return Check.ok("pg_repack", says)
    if version:
        reason = f"version {version} {SUPERUSERS_ONLY}, and the server offers {offered}"
    says = f"monthly_db.yml leaves bloated tables, because {reason}; docs/howto/monthly.md says how to set it up."
    return Check.breach("pg_repack", says)


def judge_measuring(fix: str, unseen: Sequence[str]) -> Check:
    """Bloat can be measured, or estimated for every table.

    :param fix: what lets this user measure; empty where it may already
    :param unseen: tables whose statistics are hidden from this user
    """
    if not fix:
        return Check.ok("pgstattuple", "Bloat is measured.")
    if unseen:
        return Check.breach("pgstattuple", f"The bloat of {some(unseen)} is unknown: {fix}.")
    return Check.ok("pgstattuple", f"Bloat is only estimated: {fix}.")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def judge_proof_roles(login: str, missing: Sequence[str], foreign: Sequence[str]) -> Check:
    """Who restores a proof can give each object to its owner.

    :param missing: roles of the database that the server of proofs does not have
    :param foreign: owners that ``login`` is no member of
    """
    told = []
    if missing:
        # All of them, to be run as they stand.
        making = " ".join(f"CREATE ROLE {_quoted(name)} NOLOGIN;" for name in missing)
        told.append(f"The server of proofs has no role {some(missing)}, which the backups name; run there: {making}")
    if foreign:
        granted = ", ".join(map(_quoted, foreign))
        told.append(f"{login} cannot give objects to {some(foreign)}; run there: GRANT {granted} TO {_quoted(login)};")
    if told:
        return Check.breach("proof roles", " ".join(told))
    return Check.ok("proof roles", "Each owner is there, and can be given what it owns.")


def judge_proof_apart(cluster: str, proof_cluster: str, environment: str) -> Check:
    """A backup is proven away from the database that it is of; only a sandbox has one server for both.

    :param cluster: the system identifier of the database's cluster
    """
    if cluster == proof_cluster and environment != "sandbox":
        return Check.breach(
            "proof server",
            "It is the cluster of the database itself, whose disk and load each proof shares, and whose loss takes the "
            "proof along; name a server of its own in backup_proof_login_host (docs/howto/verify.md).",
        )
    return Check.ok("proof server", "It is one of its own." if cluster != proof_cluster else "A sandbox has only one.")


def judge_proof_server(server_version: int, proof_version: int) -> Check:
    """A backup is proven on a server as new as its own, or newer."""
    own, other = server_version // 10_000, proof_version // 10_000
    if other < own:
        return Check.breach(
            "proof version",
            f"The server of the proof is PostgreSQL {other}, and the database's is {own}; a dump is not restored into "
            "an older one: upgrade it.",
        )
    return Check.ok("proof version", f"PostgreSQL {other}, for backups of {own}.")


def bucket(name: str, checks: Sequence[Check]) -> list[Check]:
    """A bucket's checks: one line where all is well, else each that is not."""
    bad = [Check(f"{name} {each.name}", each.status, each.msg) for each in checks if each.status != Status.OK]
    return bad or [Check.ok(name, f"Reachable. {all_ok(len(checks))}")]


def summary(checks: Sequence[Check]) -> str:
    """One sentence on all checks."""
    bad = [check.name for check in checks if check.status != Status.OK]
    if not bad:
        return all_ok(len(checks))
    total = count(len(checks), "check")
    return f"{len(bad)} of {total} {agree(len(bad), 'is', 'are')} not ok: {some(bad)}; the table has all."


def not_asked(name: str, why: str) -> Check:
    """What could not be looked at."""
    return Check.unknown(name, f"Not looked at: {why}; fix that first, then look again.")
