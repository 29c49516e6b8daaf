"""How a run goes through many hosts: in batches, the first of them the canary, and no further one after failures.

Ansible divides a play into batches by itself (``serial``), but its ``max_fail_percentage`` sees no failure in a play
that is one block with ``always``. So whether a batch may begin is said here, and modules of ours ask before they write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.words import agree, count

BATCHES, STOP_AFTER = "preflight_batches", "preflight_stop_after_failures"
#: What a result of a module says whose host was not begun.
NOT_RUN = "not_run"
#: Names that a sentence lists; of more it says how many.
_TOLD = 5
_SIZE = re.compile(r"[1-9]\d{0,5}|(?:[1-9]\d?|100)%")


@dataclass(frozen=True)
class Fleet:
    """How many hosts are worked on at once, and when no more are."""

    #: Sizes of the batches, as Ansible's ``serial`` takes them: hosts, or a share such as ``10%``; the last one is
    #: repeated. None of them: all hosts at once.
    batches: tuple[str, ...] = ()
    #: Failed hosts after which no further batch begins; 0 never stops.
    stop_after_failures: int = 1


def read(batches: object, stop_after: object, *, playbook: str, known: Iterable[str]) -> Fleet:
    """What the inventory or the command line says for one playbook.

    :param batches: sizes for this run, or by the playbook's file name; None where nothing is said
    :param playbook: file name of the one that was started
    :param known: file names of all
    :raises RunbookError: one of them means nothing

    >>> read({"weekly_db.yml": [1, "10%"]}, None, playbook="weekly_db.yml", known=["weekly_db.yml"]).batches
    ('1', '10%')
    """
    if isinstance(batches, Mapping):
        names = sorted(known)
        for name in batches:
            if name not in names:
                raise RunbookError(f"{BATCHES}: {name!r} is no playbook; {_choose(str(name), names)}")
        batches = batches.get(playbook)
    given = [] if batches is None else batches if isinstance(batches, (list, tuple)) else str(batches).split(",")
    found = tuple(str(each).strip() for each in given)
    for each in found:
        if not _SIZE.fullmatch(each):
            raise RunbookError(
                f"{BATCHES}: {each!r} is no size of a batch; give numbers of hosts, or shares from 1% to 100%, as in "
                "[1, 10, '25%']."
            )
    most = str(Fleet.stop_after_failures if stop_after is None else stop_after)
    if not re.fullmatch(r"\d{1,6}", most):
        raise RunbookError(f"{STOP_AFTER}: {most!r} is no number of hosts; give 0, which never stops, or more.")
    return Fleet(found, int(most))


def agreed(found: Mapping[str, Fleet]) -> Fleet:
    """How a run goes through its hosts, which it can do in one way alone.

    :param found: by host, what the inventory says for the playbook
    :raises RunbookError: hosts differ; Ansible itself would hold what the first one says for what all say

    >>> agreed({"db1": Fleet(("1",)), "db2": Fleet(("1",))}).batches, agreed({}).stop_after_failures
    (('1',), 1)
    """
    names = list(found)
    first = found[names[0]] if names else Fleet()
    for host in names[1:]:
        for name, one, other in (
            (BATCHES, first.batches, found[host].batches),
            (STOP_AFTER, first.stop_after_failures, found[host].stop_after_failures),
        ):
            if one != other:
                told = [", ".join(each) or "all at once" if isinstance(each, tuple) else each for each in (one, other)]
                raise RunbookError(
                    f"{name}: it is {told[0]} for {names[0]} and {told[1]} for {host}, and a run goes through all of "
                    "its hosts in one way; set it once, in group_vars/all, or with -e."
                )
    return first


def sizes(batches: Iterable[object], hosts: int) -> list[int]:
    """How many hosts each batch has, as Ansible divides them.

    >>> sizes(["1", "10%"], 25), sizes([], 3)
    ([1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], [3])
    """
    given, left = [str(each) for each in batches], hosts
    found: list[int] = []
    while left > 0:
        size = given[min(len(found), len(given) - 1)] if given else "0"
        number = max(1, int(size[:-1]) * hosts // 100) if size.endswith("%") else int(float(size))
        found.append(min(number, left) if number > 0 else left)
        left -= found[-1]
    return found


def plan(name: str, found: list[int], stop_after: int) -> str:
    """What is said of a play that has several batches, before the first begins.

    >>> plan("Weekly", [1, 10, 10, 4], 2)
    'Weekly: 25 hosts in 4 batches of 1, 10, 10 and 4; no further batch begins once 2 hosts failed.'
    """
    told = [str(each) for each in found[:_TOLD]] + (["…"] if len(found) > _TOLD + 1 else [])
    told += [str(found[-1])] if len(found) > _TOLD else []
    stop = f"once {count(stop_after, 'host')} failed" if stop_after else "only where every host of a batch failed"
    how = f"{count(sum(found), 'host')} in {count(len(found), 'batch', 'batches')}"
    return f"{name}: {how} of {', '.join(told[:-1])} and {told[-1]}; no further batch begins {stop}."


def held(failed: Iterable[str], stop_after: int) -> str:
    """Why no further batch begins, in one sentence; empty where the next one may.

    >>> held(["db7", "db1"], 2)  # doctest: +ELLIPSIS
    'Not run: 2 hosts before it failed (db1, db7), and preflight_stop_after_failures is 2. Mend them, or ...'
    """
    names = sorted(failed)
    if not stop_after or len(names) < stop_after:
        return ""
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    them = agree(len(names), "it", "them")
    return (
        f"Not run: {count(len(names), 'host')} before it failed ({', '.join(names[:_TOLD])}{more}), and {STOP_AFTER} "
        f"is {stop_after}. Mend {them}, or leave {them} out with --limit, and run the same command again."
    )


def nobody(limit: str, patterns: Iterable[str], names: Iterable[str]) -> str:
    """Why a limit is refused of which some patterns match nobody.

    :param limit: as ``--limit`` says it
    :param patterns: the ones that match nobody
    :param names: hosts and groups of the inventory
    """
    wrong, existing = list(patterns), sorted(names)
    close = [near[0] for each in wrong if (near := get_close_matches(each.lstrip("!&"), existing, 1))]
    quoted = ", ".join(repr(each) for each in wrong)
    hint = f"did you mean {', '.join(close)}?" if close else "ansible-inventory --graph lists what there is."
    return f"--limit {limit}: {quoted} {agree(len(wrong), 'matches', 'match')} no host of the inventory; {hint}"


def _choose(value: str, known: list[str]) -> str:
    close = get_close_matches(value, known, 1)
    return f"did you mean {close[0]}?" if close else f"take one of {', '.join(known)}."
