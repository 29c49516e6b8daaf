"""Who may read an archive: no more people than may read the table that its rows came from.

An archive that is made gets its source's owner, row security and policies, and the right to read for those who may read
the source; nobody gets a right to change it. An archive that is there already is compared with its source, for whoever
reads it sees rows that the source may hide from them.

Row security hides rows from everybody but the table's owner (unless it is forced), superusers and roles with BYPASSRLS:
https://www.postgresql.org/docs/current/ddl-rowsecurity.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

#: Everybody, as GRANT and CREATE POLICY say it. No role can bear this name.
PUBLIC = "PUBLIC"

#: A constant, a quoted name, a plain name, or one other character of an expression as the server writes it.
_TOKEN = re.compile(r"""[eE]?'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")+"|[^\W\d][\w$]*|\S""", re.DOTALL)


def _tokens(expression: str) -> list[str]:
    return _TOKEN.findall(expression)


def _plain(token: str) -> str:
    """A name without its quotes."""
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def _is_name(token: str) -> bool:
    return token.startswith('"') or token[0].isalpha() or token[0] == "_"


@dataclass(frozen=True)
class Policy:
    """A policy of row security. ``using`` and ``check`` are the server's own text; None where there is none."""

    name: str
    #: pg_policy.polcmd: r SELECT, a INSERT, w UPDATE, d DELETE, * ALL
    command: str
    permissive: bool
    roles: tuple[str, ...]
    using: str | None
    check: str | None = None

    @property
    def reads(self) -> bool:
        """Whether it says which rows may be read."""
        return self.command in {"r", "*"}

    def condition(self, table: str) -> tuple[str, ...]:
        """``using`` in a form that is equal for equal conditions of two tables.

        :param table: name of the table that has the policy; in a subquery the server names it
        """
        tokens = _tokens("true" if self.using is None else self.using)
        return tuple(
            "\0" if _is_own(tokens, place, table) else (_plain(token) if _is_name(token) else token)
            for place, token in enumerate(tokens)
        )

    def moved(self, old: str, new: str) -> Policy:
        """The same policy for a table of another name.

        :raises RunbookError: an expression uses the new name already, and would mean something else
        """
        return replace(self, using=_moved(self, self.using, old, new), check=_moved(self, self.check, old, new))

    def covers(self, roles: Iterable[str]) -> bool:
        """Whether it holds for all of these roles."""
        return PUBLIC in self.roles or set(roles) <= set(self.roles)


def _is_own(tokens: Sequence[str], place: int, table: str) -> bool:
    """Whether a token is the table's name before one of its columns: no part of a longer name, and before a dot."""
    before = tokens[place - 1] if place else ""
    after = tokens[place + 1] if place + 1 < len(tokens) else ""
    return _is_name(tokens[place]) and _plain(tokens[place]) == table and after == "." and before != "."


def _moved(policy: Policy, expression: str | None, old: str, new: str) -> str | None:
    if expression is None:
        return None
    tokens = _tokens(expression)
    own = {place for place in range(len(tokens)) if _is_own(tokens, place, old)}
    if not own:
        return expression
    if any(_is_name(token) and _plain(token) == new for token in tokens):
        raise RunbookError(
            f"archive: policy {policy.name} of the source names {new!r} itself, so it cannot be written for a table of "
            "that name; create the archive by hand, with its policies, or give it another name."
        )
    quoted = '"{}"'.format(new.replace('"', '""'))
    return " ".join(quoted if place in own else token for place, token in enumerate(tokens)).replace(" . ", ".")


@dataclass(frozen=True)
class Right:
    """What somebody may do with a table."""

    table: QualifiedName
    grantee: str
    privileges: tuple[str, ...]
    #: Empty where it is the whole table.
    column: str = ""
    #: The grant option is meant: the right to give these rights to others.
    option: bool = False
    #: Who gave it, where that is not the table's owner.
    by: str = ""

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        who = "everybody" if self.grantee == PUBLIC else self.grantee
        may = f"{who} may {'grant ' if self.option else ''}{', '.join(self.privileges)}{column}"
        return f"{may}{' to others' if self.option else ''}{f', granted by {self.by}' if self.by else ''}"


@dataclass(frozen=True)
class Access:
    """Who may read a table."""

    owner: str
    row_security: bool = False
    #: Row security holds for the owner too.
    forced: bool = False
    policies: tuple[Policy, ...] = ()
    #: Rights to read, without the owner's own.
    readers: tuple[Right, ...] = ()


@dataclass(frozen=True)
class Opening:
    """One way in which an archive is more open than its source."""

    kind: Literal["right", "row security", "forced", "policy", "restriction", "owner"]
    table: QualifiedName
    right: Right | None = None
    policy: Policy | None = None
    owner: str = ""

    def __str__(self) -> str:
        if self.right:
            return str(self.right)
        if self.policy:
            who = ", ".join("everybody" if role == PUBLIC else role for role in self.policy.roles)
            way = "shows them other rows than the source does" if self.kind == "policy" else "is missing"
            return f"policy {self.policy.name} for {who} {way}"
        return {
            "row security": "row security is off, so whoever may SELECT sees all rows",
            "forced": "row security is not forced on its owner",
            "owner": f"it belongs to {self.owner}, from whom the source hides rows",
        }[self.kind]


@dataclass(frozen=True)
class Compared:
    """What the server says about an archive beside its source."""

    source: QualifiedName
    archive: QualifiedName
    source_access: Access
    archive_access: Access
    #: Rights on the archive, or on a partition of it, that the source does not give to the same role.
    wider: tuple[Right, ...] = ()
    #: Partitions that others than their owner may read, though no row security of their own hides rows.
    bare: tuple[QualifiedName, ...] = ()
    #: The archive's owner may see all rows of the source.
    owner_sees: bool = True
    #: The source's owner may read the archive.
    readable: bool = True


def openings(found: Compared) -> list[Opening]:
    """In which ways the archive is more open than its source; none is as it should be."""
    here, there = found.source_access, found.archive_access
    ways = [Opening("right", right.table, right=right) for right in found.wider]
    if here.owner != there.owner and not found.owner_sees:
        ways.append(Opening("owner", found.archive, owner=there.owner))
    if not here.row_security:
        return ways
    if not there.row_security:
        ways.append(Opening("row security", found.archive))
    if here.forced and not there.forced:
        ways.append(Opening("forced", found.archive))
    ways += [Opening("row security", table) for table in found.bare]
    return ways + (_looser(found) if there.row_security else [])


def _looser(found: Compared) -> list[Opening]:
    """Policies by which the archive shows rows that the source hides."""

    def condition(policy: Policy, table: QualifiedName) -> tuple[str, ...]:
        return policy.condition(table.name)

    here = [policy for policy in found.source_access.policies if policy.reads]
    there = [policy for policy in found.archive_access.policies if policy.reads]
    showing = [policy for policy in there if policy.permissive]
    ways = [
        Opening("policy", found.archive, policy=policy)
        for policy in showing
        if policy.using != "false"
        and not any(
            other.permissive
            and other.covers(policy.roles)
            and condition(other, found.source) == condition(policy, found.archive)
            for other in here
        )
    ]
    if showing:
        ways += [
            Opening("restriction", found.archive, policy=policy)
            for policy in here
            if not policy.permissive
            and not any(
                not other.permissive
                and other.covers(policy.roles)
                and condition(other, found.archive) == condition(policy, found.source)
                for other in there
            )
        ]
    return ways


def more_open(found: Compared, ways: Sequence[Opening], fixes: Sequence[str]) -> str:
    """The sentence for an archive that is more open than its source.

    :param fixes: SQL that closes it
    """
    said = "; ".join(f"{way} on {way.table}" if way.table != found.archive else str(way) for way in ways)
    return (
        f"archive: {found.archive} is more open than {found.source}, so nothing is moved into it: {said}. Close it, as "
        f"its owner: {'; '.join(fixes)}."
    )


def unreadable(found: Compared) -> str | None:
    """What to tell where the source's owner cannot read its own history."""
    if found.readable:
        return None
    return (
        f"{found.archive} belongs to {found.archive_access.owner}, and {found.source_access.owner}, the owner of "
        f"{found.source}, may not read it; give it to that role with ALTER TABLE … OWNER TO, or grant it SELECT."
    )


def cannot_make(source: QualifiedName, archive: QualifiedName, owner: str, statements: Sequence[str]) -> str:
    """The sentence where this role may not make an archive that is no more open than its source."""
    return (
        f"archive: {archive} does not exist, and this role may not make it for {owner}, the owner of {source}, in that "
        f"schema; run playbooks/db_roles.yml, which makes it, or have {owner} run once: {'; '.join(statements)}."
    )
