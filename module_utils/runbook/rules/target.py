"""What a run may write to: its kind, and the identity by which no other is taken for it.

This is the one list of kinds. Each has a module that proves it, which an entry point of the role preflight runs;
nothing else of preflight knows what a target is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Kind:
    """How targets of one kind are proven and called."""

    #: The module of ``library/`` that proves them.
    proven_by: str
    #: With the fields of :class:`Target`.
    sentence: str


KINDS = {
    "aws_account": Kind("aws_preflight", "account {name} of {place}"),
    "database": Kind("pg_preflight", "database {name} of cluster {place}"),
    "bucket": Kind("s3_preflight", "bucket {name} of {place}"),
    "change": Kind("change_open", "the change of {name}"),
    "repository": Kind("repository_preflight", "repository {place} with the first commit {name}"),
    "server": Kind("server_preflight", "server {name} with the machine id {place}"),
    "supabase_project": Kind("supabase_preflight", "Supabase project {name} of {place}"),
    "vercel_project": Kind("vercel_preflight", "Vercel project {name} of {place}"),
}


@dataclass(frozen=True)
class Target:
    """One target, as its proof returned it."""

    #: A key of :data:`KINDS`.
    kind: str
    #: Within what the name is unique: a cluster's identifier, a service's address.
    place: str
    name: str

    def __str__(self) -> str:
        return KINDS[self.kind].sentence.format(name=self.name, place=self.place)

    def proven(self, environment: str) -> dict[str, str]:
        """As its proof returns it."""
        return asdict(self) | {"environment": environment}
