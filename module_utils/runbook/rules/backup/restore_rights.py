"""What a user who is no superuser can restore, and what has to be said before anything is made.

Such a user makes the new database and owns it. An object of somebody else's is made and then given away, which only a
member of that role may do, and only where that role may make objects in the schema. The rest is decided by the server:
some kinds of objects and the extensions that are not trusted are a superuser's to make.

The kinds are those whose CREATE checks ``superuser()``; see each one's page in PostgreSQL's reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Extension
    from ansible.module_utils.runbook.rules.supabase.managed import Entry

#: Extensions that show figures or help a person to repair: no column has a type of theirs, and no application calls
#: them. A copy does without them where this user cannot make them.
INSPECTING = frozenset({
    "amcheck", "hypopg", "pageinspect", "pg_buffercache", "pg_freespacemap", "pg_prewarm", "pg_qualstats", "pg_repack",
    "pg_stat_kcache", "pg_stat_monitor", "pg_stat_statements", "pg_surgery", "pg_visibility", "pg_wait_sampling",
    "pg_walinspect", "pgrowlocks", "pgstattuple",
})  # fmt: skip
#: Roles whose members a managed service lets make extensions, whatever the server's own catalogues say.
SERVICE_ADMINS = ("rds_superuser", "cloudsqlsuperuser", "alloydbsuperuser", "azure_pg_admin")
#: First server version where the schema public of a new database belongs to the database's owner.
OWNS_PUBLIC = 150000
#: Kinds that only a superuser makes.
_SUPERUSERS = frozenset({
    "ACCESS METHOD", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "OPERATOR CLASS", "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE", "SHELL TYPE", "SUBSCRIPTION", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
})  # fmt: skip
#: What a proof does without, because it holds no rows and acts by itself.
_NOT_PROVEN = frozenset({"EVENT TRIGGER", "SUBSCRIPTION"})
#: Who owns the schema public from 15 on: whoever owns the database.
_DATABASE_OWNER = "pg_database_owner"
#: What says something of an object and is no object.
_ABOUT = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})


@dataclass(frozen=True)
class Owned:
    """What one role owns of one kind."""

    owner: str
    #: Such as ``large object``.
    kind: str
    count: int
    #: The name of one of them.
    example: str

    def __str__(self) -> str:
        """How it is called in a sentence."""
        ending = "ies" if self.kind.endswith("y") else "es" if self.kind[-1] in "sx" else "s"
        many = (self.kind[:-1] if ending == "ies" else self.kind) + ending
        return f"{count(self.count, self.kind, many)} ({self.example}{' …' if self.count > 1 else ''})"

    @staticmethod
    def tell(found: Sequence[Owned]) -> str:
        """All that is owned, by kind.

        >>> Owned.tell([Owned("a", "large object", 2, "16569"), Owned("a", "operator family", 1, "public.f")])
        '2 large objects (16569 …), 1 operator family (public.f)'
        """
        return some(map(str, sorted(found, key=lambda each: (-each.count, each.kind))), most=10)


def of_superusers(found: Sequence[Owned]) -> Iterator[str]:
    """A sentence for each superuser who owns something, told while that can still be changed."""
    for owner in sorted({each.owner for each in found}):
        own = Owned.tell([each for each in found if each.owner == owner])
        yield (
            f"Only a superuser can restore this backup, because the superuser {owner} owns {own}. Run ALTER … OWNER TO "
            "a role that is none, and back up again."
        )


@dataclass(frozen=True)
class Rights:
    """What the user has who restores."""

    role: str
    #: ``server_version_num``.
    server_version: int
    #: Roles that it can give objects to.
    members_of: Collection[str]
    #: Every role of the server.
    roles: Collection[str]
    #: Those that are superusers.
    superusers: Collection[str] = ()


@dataclass(frozen=True)
class Selection:
    """What of an archive's definitions this user restores."""

    #: Schemas and their privileges, which come first: whoever gets an object has to be allowed to make one there.
    schemas: Sequence[Entry]
    rest: Sequence[Entry]
    #: What is left out, in words.
    left_out: Sequence[str]


def lacking(extensions: Sequence[Extension], untrusted: Collection[str]) -> tuple[str, ...]:
    """Extensions of a backup that the copy does without, since this user cannot make them and nothing needs them."""
    return tuple(sorted(each.name for each in extensions if each.name in untrusted and each.name in INSPECTING))


def statements(extensions: Sequence[Extension], names: Collection[str]) -> list[str]:
    """How a superuser makes extensions that were left out."""
    return [f'CREATE EXTENSION "{each.name}" SCHEMA "{each.schema}"' for each in extensions if each.name in names]


def _read(entries: Sequence[Entry], rights: Rights) -> list[Entry]:
    """The entries with their owners; a name may hold spaces, so the longest one that fits is meant."""
    read = []
    for each in entries:
        fits = [name for name in rights.roles if each.line.endswith(f" {name}")] if each.owner else []
        owner = max(fits, key=len, default=each.owner)
        more = owner[: len(owner) - len(each.owner)].rstrip()
        read.append(each._replace(owner=owner, tag=each.tag.removesuffix(more).rstrip() if more else each.tag))
    return read


def _is_public(entry: Entry) -> bool:
    return (entry.kind == "SCHEMA" and entry.tag == "public") or (
        entry.kind in _ABOUT and not entry.schema and entry.tag == "SCHEMA public"
    )


def _described(entry: Entry) -> tuple[str, str, str]:
    """Of what an entry of :data:`_ABOUT` says something: kind, schema, name."""
    kinds = ("MATERIALIZED VIEW", "FOREIGN TABLE", "FOREIGN SERVER", "FOREIGN DATA WRAPPER", "EVENT TRIGGER")
    kind = next((each for each in kinds if entry.tag.startswith(f"{each} ")), entry.tag.partition(" ")[0])
    return kind, entry.schema, entry.tag[len(kind) + 1 :]


def select(
    entries: Sequence[Entry], rights: Rights, *, scratch: bool, without: Collection[str] = ()
) -> tuple[Selection, list[str]]:
    """What this user restores, and what keeps it from restoring: one part of a sentence each, empty where nothing does.

    :param scratch: the copy is dropped again, so what holds no rows can be missing if that is said
    :param without: extensions that are left out
    """
    entries = _read(entries, rights)
    made = {(each.schema, each.tag) for each in entries if each.kind not in _ABOUT}
    kept: list[Entry] = []
    out: list[str] = []
    foreign: dict[str, list[Entry]] = {}
    kinds: list[str] = []
    public: list[str] = []
    for each in entries:
        owner = each.owner
        is_ours = not owner or owner in rights.members_of or owner == _DATABASE_OWNER
        if (each.kind == "EXTENSION" and each.tag in without) or (
            each.kind in _ABOUT and each.tag.startswith("EXTENSION ") and _described(each)[2].strip('"') in without
        ):
            continue
        if _is_public(each):
            if each.kind == "SCHEMA" and not is_ours:
                # A new database has it anyway, and it belongs to whom the server gives it.
                continue
            if rights.server_version < OWNS_PUBLIC:
                (out if scratch else public).append(f"the {each.kind.lower()} of the schema public")
                continue
        elif each.kind in _SUPERUSERS or each.kind == "SUBSCRIPTION TABLE":
            (out if scratch and each.kind in _NOT_PROVEN else kinds).append(each.name)
            continue
        elif each.kind in _ABOUT and not each.schema and each.tag.partition(" ")[0] in {"EVENT", "SUBSCRIPTION"}:
            continue
        elif each.kind in _ABOUT and not is_ours and _described(each)[1:] not in made:
            # An extension made it, so it belongs to whoever may make that.
            out.append(f"the {each.kind.lower()} of {' '.join(filter(None, _described(each)))}, an extension's")
            continue
        elif not is_ours:
            foreign.setdefault(owner, []).append(each)
        kept.append(each)
    first = [each for each in kept if each.kind == "SCHEMA" or (each.kind == "ACL" and each.tag.startswith("SCHEMA "))]
    early = set(first)
    rest = [each for each in kept if each not in early]
    return Selection(first, rest, out), list(_problems(rights, foreign, kinds, public))


def _owned(owner: str, entries: Sequence[Entry]) -> list[Owned]:
    """What an archive has of one owner, by kind."""
    by_kind: dict[str, list[str]] = {}
    # What is said of an object comes with the object.
    for each in [each for each in entries if each.kind not in _ABOUT] or entries:
        kind = each.kind.lower()
        name = each.name.removeprefix(f"{kind} ")
        by_kind.setdefault({"blob": "large object", "blob metadata": "large object"}.get(kind, kind), []).append(name)
    return [Owned(owner, kind, len(names), names[0]) for kind, names in by_kind.items()]


def _problems(
    rights: Rights, foreign: Mapping[str, Sequence[Entry]], kinds: Sequence[str], public: Sequence[str]
) -> Iterator[str]:
    grant = (
        "run playbooks/db_roles.yml, which makes members of runbook_restore members of every owner that is no "
        f"superuser; on a server of proofs GRANT it to {rights.role} yourself; or log in as a superuser"
    )
    give = (
        "no membership helps there: log in as a superuser for this restore (db_restore_login_user), and before the "
        "next backup run ALTER … OWNER TO a role that is none"
    )
    for owner in sorted(foreign):
        is_superuser = owner in rights.superusers
        yield (
            f"login_user {rights.role!r} cannot give objects to {'the superuser ' if is_superuser else ''}{owner}, who "
            f"owns {Owned.tell(_owned(owner, foreign[owner]))}; {give if is_superuser else grant}"
        )
    if kinds:
        yield f"only a superuser can make {some(kinds)}; log in as one"
    if public:
        yield (
            "before PostgreSQL 15 the schema public of a new database belongs to a superuser, so only one can bring "
            f"back {some(list(dict.fromkeys(public)))}; log in as one"
        )


def makers(entries: Sequence[Entry], role: str) -> list[tuple[str, str]]:
    """Schema and role wherever a role is given an object; with an empty schema, what belongs to the whole database.

    :param entries: of a :class:`Selection`
    :param role: who restores, and may do so already
    """
    found = {
        (each.schema, each.owner)
        for each in entries
        if each.kind not in _ABOUT and (each.schema or each.kind == "PUBLICATION")
    }
    return sorted((schema, owner) for schema, owner in found if owner and owner != role)
