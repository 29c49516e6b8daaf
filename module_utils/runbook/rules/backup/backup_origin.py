"""Whose backup it is: its cluster is compared before anything is written, deleted, restored or judged.

Two servers with a database of one name and one prefix share a folder. Then the retention of one deletes the backups of
the other, and the data of one are restored to the other. So a backup says of which cluster it is, in the first object
of its folder and in its manifest, by PostgreSQL's ``system_identifier``. A failover to a standby keeps that number;
``initdb``, ``pg_upgrade`` and a logical restore to another server make a new one. Then the inventory names the old one
in ``backup_previous_clusters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.manifest import CLAIM_NAME, parse, parse_claim
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Origin:
    """The database that a backup is of."""

    system_identifier: str
    database: str


def read(name: str, text: bytes) -> Origin | None:
    """Whose backup it is, by one of its two documents; None if that does not say it.

    :param name: name of the document within the backup's folder
    """
    if name == CLAIM_NAME:
        claim = parse_claim(text)
        return Origin(claim.system_identifier, claim.database) if claim.system_identifier else None
    try:
        source = parse(text, where=name).source
    except RunbookError:
        return None
    return Origin(source.system_identifier, source.database)


def accepted(own: str, previous: Sequence[str]) -> frozenset[str]:
    """The clusters whose backups are this database's; empty where nothing is to be compared.

    :param own: the database's cluster; empty where it is not known
    :param previous: those in whose place it is
    :raises RunbookError: a previous one is no number, or there are some and the own one is not known
    """
    for each in previous:
        if not each.isdecimal():
            raise RunbookError(f"previous_clusters: {each!r} is no system_identifier, which is a number of 19 digits.")
    if previous and not own:
        raise RunbookError("previous_clusters: it is set, and system_identifier is not; set both or neither.")
    return frozenset({own, *previous}) if own else frozenset()


def check_writing(newest: Origin | None, clusters: frozenset[str], own: Origin, *, where: str) -> None:
    """Refuse to back up into the folder of another server.

    :param newest: whose the newest backup there is; None where there is none
    :param clusters: as :func:`accepted` gives it
    :raises RunbookError: another cluster's backups lie there, or another database's
    """
    if newest is None or (newest.system_identifier in clusters and newest.database == own.database):
        return
    if newest.database != own.database:
        raise RunbookError(
            f"prefix: {where} holds backups of a database {newest.database!r}, and this one is {own.database!r}; give "
            "it a backup_prefix of its own."
        )
    raise RunbookError(
        f"prefix: {where} holds backups of cluster {newest.system_identifier}, and this database is on cluster "
        f"{own.system_identifier}. If they are two servers, give each a backup_prefix of its own. If this one took the "
        "other's place (a new initdb, pg_upgrade, a restore to another server), set "
        f"backup_previous_clusters: ['{newest.system_identifier}'] in its inventory."
    )


def check_one(found: Iterable[Origin | None], *, where: str) -> None:
    """Refuse to thin out a folder in which several clusters have backups, if nobody says which is meant.

    :raises RunbookError: there are several
    """
    clusters = sorted({each.system_identifier for each in found if each})
    if len(clusters) > 1:
        raise RunbookError(
            f"system_identifier: {where} holds backups of "
            f"{count(len(clusters), 'cluster')} ({', '.join(clusters)}); name the "
            "one that is meant."
        )


def check_restoring(of: str, clusters: frozenset[str], from_cluster: str, *, where: str) -> None:
    """Refuse to restore another server's backup, unless that was asked for by its number.

    :param of: the cluster that the backup is of
    :param clusters: as :func:`accepted` gives it; nothing is compared where it is empty
    :param from_cluster: the cluster that a person named for this run; empty if nobody did
    :raises RunbookError: it is another one's
    """
    if from_cluster:
        if of != from_cluster:
            raise RunbookError(
                f"from_cluster: {where} is a backup of cluster {of}, not of {from_cluster}; name the one that is meant."
            )
        return
    if clusters and of not in clusters:
        raise RunbookError(
            f"backup: {where} is of cluster {of}, and this database is on cluster {', '.join(sorted(clusters))}. To "
            f"restore another server's data on purpose (after a disaster, for a clone), add -e "
            f"db_restore_from_cluster={of} to this run. Otherwise give each server a backup_prefix of its own."
        )
