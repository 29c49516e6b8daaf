"""What Vercel's API says about a project, its deployments and its environment variables.

The API grows: fields that are not known are ignored, a state that is not known is none that this code acts on, and a
field that is needed and missing is an error that names it. Fields and states: https://vercel.com/docs/rest-api
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_api_url
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import some, to_second

PRODUCTION = "production"
#: What an environment variable can be for. A project may have environments of its own beside these.
TARGETS = (PRODUCTION, "preview", "development")

READY = "READY"
#: States in which a build has come to nothing.
FAILED = frozenset({"ERROR", "CANCELED", "DELETED"})

SUCCEEDED = "succeeded"
#: States of a request to move the domains, in which nothing more happens.
OVER = frozenset({SUCCEEDED, "failed", "skipped"})

#: The type whose value Vercel gives to nobody any more, neither to us nor to its owner.
SENSITIVE = "sensitive"
#: Types of variables that Vercel or an integration sets by itself.
NOT_OURS = frozenset({"system", "secret"})

#: Where the integrations with a git host write down which commit they deployed.
_COMMIT = ("githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha", "gitCommitSha")
_BRANCH = ("githubCommitRef", "gitlabCommitRef", "bitbucketCommitRef", "gitCommitRef")
#: Under which name in a deployment's ``meta`` a redeployment's natural key stands.
KEY = "runbookKey"

_PROJECT = re.compile(r"prj_[A-Za-z0-9]{1,64}")
_TEAM = re.compile(r"team_[A-Za-z0-9]{1,64}")


@dataclass(frozen=True)
class Place:
    """Where a project is asked for; ``team_id`` is empty for the project of a person."""

    api_url: str
    project_id: str
    team_id: str

    @classmethod
    def named(cls, api_url: str, project_id: str, team_id: str) -> Place:
        """The place that the options name.

        :raises RunbookError: the address or an id is none
        """
        if not _PROJECT.fullmatch(project_id):
            raise RunbookError(
                f"project_id: {project_id!r} is not the id of a project, which begins with prj_; copy it from the "
                "project's settings."
            )
        if team_id and not _TEAM.fullmatch(team_id):
            raise RunbookError(
                f"team_id: {team_id!r} is not the id of a team, which begins with team_; copy it from the team's "
                "settings, or leave it empty for a project of a person."
            )
        return cls(check_api_url(api_url, "https://api.vercel.com"), project_id, team_id)


@dataclass(frozen=True)
class AliasRequest:
    """The last request to let a project's domains lead to another deployment."""

    from_id: str
    to_id: str
    #: ``pending``, ``in-progress``, ``succeeded``, ``failed``, ``skipped``.
    status: str
    requested_at: datetime
    #: ``rollback`` or ``promote``.
    type: str


@dataclass(frozen=True)
class Project:
    """A project as the API shows it."""

    id: str
    name: str
    #: Of the team, or of the person.
    account_id: str
    #: The deployment that the production domains lead to; empty where there is none.
    live_id: str
    #: Whether a push to the production branch goes live by itself; None where the API does not say. A rollback turns it
    #: off: https://vercel.com/docs/instant-rollback
    auto_assigns: bool | None
    alias_request: AliasRequest | None
    #: The branch whose pushes are deployed to production; empty where no repository is connected.
    production_branch: str

    @classmethod
    def read(cls, body: Any) -> Project:
        """Read the answer to ``GET /v9/projects/{id}``.

        :raises RunbookError: a field that is needed is missing
        """
        what = "the project"
        targets = body.get("targets") if isinstance(body, Mapping) else None
        live = targets.get(PRODUCTION) if isinstance(targets, Mapping) else None
        auto = body.get("autoAssignCustomDomains") if isinstance(body, Mapping) else None
        asked = body.get("lastAliasRequest") if isinstance(body, Mapping) else None
        link = body.get("link") if isinstance(body, Mapping) else None
        return cls(
            id=_text(body, "id", what),
            name=_text(body, "name", what),
            account_id=_text(body, "accountId", what),
            live_id=str(live.get("id") or "") if isinstance(live, Mapping) else "",
            auto_assigns=auto if isinstance(auto, bool) else None,
            alias_request=_alias_request(asked) if asked else None,
            production_branch=str(link.get("productionBranch") or "") if isinstance(link, Mapping) else "",
        )


@dataclass(frozen=True)
class Deployment:
    """A deployment: one build of one commit, with the environment variables of its time in it."""

    id: str
    #: Host name of its own, without a scheme.
    url: str
    name: str
    #: ``production``, ``staging``, or empty for a preview.
    target: str
    #: ``QUEUED``, ``INITIALIZING``, ``BUILDING``, ``READY``, ``ERROR``, ``CANCELED``, ``DELETED``.
    state: str
    created_at: datetime
    #: Empty where no git host told it.
    commit: str
    branch: str
    #: Whether Vercel would roll back to it; None where the API does not say.
    is_rollback_candidate: bool | None
    #: Whether the production domains ever led to it; None where the API does not say.
    was_live: bool | None
    #: The natural key of a redeployment that this project asked for; empty for every other.
    key: str
    #: What the build failed of, in Vercel's words.
    error: str

    @classmethod
    def read(cls, body: Any) -> Deployment:
        """Read one deployment, of a list (``uid``) or by itself (``id``).

        :raises RunbookError: a field that is needed is missing
        """
        what = "a deployment"
        meta = body.get("meta") if isinstance(body, Mapping) else None
        said = meta if isinstance(meta, Mapping) else {}
        is_listed = isinstance(body, Mapping) and "uid" in body
        candidate = body.get("isRollbackCandidate") if isinstance(body, Mapping) else None
        substate = body.get("readySubstate") if isinstance(body, Mapping) else None
        return cls(
            id=_text(body, "uid" if is_listed else "id", what),
            url=_text(body, "url", what),
            name=_text(body, "name", what),
            target=str(body.get("target") or ""),
            state=_text(body, "readyState", what),
            created_at=_moment(body, "created" if is_listed else "createdAt", what),
            commit=next((str(said[name]) for name in _COMMIT if said.get(name)), ""),
            branch=next((str(said[name]) for name in _BRANCH if said.get(name)), ""),
            is_rollback_candidate=candidate if isinstance(candidate, bool) else None,
            was_live=None if not isinstance(substate, str) else substate != "STAGED",
            key=str(said.get(KEY) or ""),
            error=str(body.get("errorMessage") or body.get("errorCode") or ""),
        )

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "id": self.id,
            "url": self.url,
            "target": self.target or "preview",
            "state": self.state,
            "created_at": self.created_at.isoformat(),
            "commit": self.commit,
            "branch": self.branch,
        }

    def __str__(self) -> str:
        commit = f" of commit {self.commit[:12]}" if self.commit else ""
        return f"{self.id}{commit}, made {to_second(self.created_at.isoformat())}"


@dataclass(frozen=True)
class Variable:
    """An environment variable of a project, without its value."""

    id: str
    name: str
    #: ``plain``, ``encrypted``, ``sensitive``, ``system``, ``secret``.
    type: str
    #: Of :data:`TARGETS`, in that order, and ids of environments of the project's own.
    targets: tuple[str, ...]
    #: The one branch of previews that it is for; empty for all.
    git_branch: str
    comment: str
    #: When its value, or anything else of it, was changed last; None where the API does not say.
    updated_at: datetime | None

    @classmethod
    def read(cls, body: Any) -> Variable:
        """Read one variable; whatever the answer says of its value is left there.

        :raises RunbookError: a field that is needed is missing
        """
        what = "an environment variable"
        targets = body.get("target") if isinstance(body, Mapping) else None
        named = [targets] if isinstance(targets, str) else targets if isinstance(targets, list) else []
        own = body.get("customEnvironmentIds") if isinstance(body, Mapping) else None
        custom = sorted(str(each) for each in own) if isinstance(own, list) else []
        updated = body.get("updatedAt") if isinstance(body, Mapping) else None
        return cls(
            id=_text(body, "id", what),
            name=_text(body, "key", what),
            type=_text(body, "type", what),
            targets=(*(each for each in TARGETS if each in named), *custom),
            git_branch=str(body.get("gitBranch") or ""),
            comment=str(body.get("comment") or ""),
            updated_at=_moment(body, "updatedAt", what) if updated is not None else None,
        )

    def __str__(self) -> str:
        branch = f", branch {self.git_branch}" if self.git_branch else ""
        return f"{self.name} ({', '.join(self.targets) or 'no target'}{branch})"


@dataclass(frozen=True)
class Setting:
    """A variable as it is to be, with its value."""

    name: str
    value: str
    #: ``plain``, ``encrypted`` or ``sensitive``.
    type: str
    targets: tuple[str, ...]
    git_branch: str = ""
    comment: str = ""

    def __repr__(self) -> str:
        return f"Setting({self.name!r}, …)"

    def body(self) -> dict[str, Any]:
        """As the API takes it."""
        custom = [each for each in self.targets if each not in TARGETS]
        return {
            "key": self.name,
            "value": self.value,
            "type": self.type,
            "target": [each for each in self.targets if each in TARGETS],
            **({"customEnvironmentIds": custom} if custom else {}),
            **({"gitBranch": self.git_branch} if self.git_branch else {}),
            **({"comment": self.comment} if self.comment else {}),
        }


@dataclass(frozen=True)
class Written:
    """That a set of variables was written as a whole."""

    ids: tuple[str, ...]

    @classmethod
    def read(cls, body: Any) -> Written:
        """Read the answer to ``POST /v10/projects/{id}/env``, whose status says yes also where some were refused.

        What Vercel says of each is left out but for its code, as it may repeat the value.

        :raises RunbookError: some were refused (code ``env_partly_written``, and which in ``refused``), or the answer
            does not say
        """
        failed = body.get("failed") if isinstance(body, Mapping) else None
        if not isinstance(failed, list):
            raise _changed("what was written", "failed")
        if failed:
            errors = [each.get("error") if isinstance(each, Mapping) else None for each in failed]
            told = [
                f"{error.get('envVarKey') or error.get('key') or 'a variable'} ({error.get('code')})"
                for error in errors
                if isinstance(error, Mapping)
            ]
            raise RunbookError(
                f"Vercel did not write {some(told, 10) or 'some variables'}; the others of the same request are "
                "written.",
                code="env_partly_written",
                refused=told,
            )
        created = body.get("created")
        made = created if isinstance(created, list) else [created]
        return cls(tuple(str(each["id"]) for each in made if isinstance(each, Mapping) and each.get("id")))


def check_identity(project: Project, place: Place, name: str) -> str:
    """The project is the one that the inventory means.

    :param name: as pinned in the inventory; empty is refused with the name that was found
    :raises RunbookError: nothing is pinned, or another project or team answered
    """
    if not name:
        raise RunbookError(
            "project_name: the inventory does not say which project it means; if this is the right one, pin it: "
            f"vercel_project_name: {project.name!r}"
        )
    if project.id != place.project_id or project.name != name:
        raise RunbookError(
            f"project_name: the inventory means project {name!r} ({place.project_id}), and {project.name!r} "
            f"({project.id}) answered; check vercel_project_id."
        )
    if place.team_id and project.account_id != place.team_id:
        raise RunbookError(
            f"team_id: the inventory means a project of {place.team_id}, and this one belongs to "
            f"{project.account_id}; check vercel_team_id."
        )
    return f"Project {project.name} ({project.id}), as pinned."


# Reading --------------------------------------------------------------------------------------------------------------


def _alias_request(body: Any) -> AliasRequest:
    what = "the last move of the domains"
    return AliasRequest(
        from_id=_text(body, "fromDeploymentId", what),
        to_id=_text(body, "toDeploymentId", what),
        status=_text(body, "jobStatus", what),
        requested_at=_moment(body, "requestedAt", what),
        type=_text(body, "type", what),
    )


def _changed(what: str, name: str) -> RunbookError:
    return RunbookError(
        f"Vercel's answer about {what} has no field {name} of the expected kind; its API may have changed.",
        status=Status.UNKNOWN,
    )


def _text(body: Any, name: str, what: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(value, str):
        raise _changed(what, name)
    return value


def _moment(body: Any, name: str, what: str) -> datetime:
    """Vercel's moments are milliseconds since 1970."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _changed(what, name)
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise _changed(what, name) from None
