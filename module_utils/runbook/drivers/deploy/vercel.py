"""Vercel's API, as far as a project's deployments and environment variables need it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, Repeat
from ansible.module_utils.runbook.drivers.http.api_pages import by_cursor
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.deploy.deployments import (
    FAILED,
    KEY,
    OVER,
    PRODUCTION,
    READY,
    SUCCEEDED,
    Deployment,
    Place,
    Project,
    Variable,
    Written,
)
from ansible.module_utils.runbook.rules.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.http.api_client import Ensured
    from ansible.module_utils.runbook.drivers.http.api_pages import Page, Query
    from ansible.module_utils.runbook.rules.deploy.deployments import AliasRequest, Setting

API_URL = "https://api.vercel.com"
#: Items of a page, the most that Vercel gives.
_PAGE = 100
#: What to do about a refusal, by its status.
_FIXES = {
    401: "check the access token",
    402: "the plan does not allow it, or the account has to be paid",
    403: "check the token's rights and vercel_team_id",
    404: "check vercel_project_id and vercel_team_id",
    409: "another act on the project is under way, or it is being moved to another team",
}


def argument_spec() -> dict[str, Any]:
    """Options that every Vercel module shares; documented in ``doc_fragments/runbook_vercel.py``."""
    return {
        "project_id": {"type": "str", "required": True},
        "project_name": {"type": "str"},
        "team_id": {"type": "str", "default": ""},
        "access_token": {"type": "str", "required": True, "no_log": True},
        "api_url": {"type": "str", "default": API_URL},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }


class Vercel:
    """One project, through Vercel's API.

    A request to change something whose answer was lost is never sent a second time blindly: what became of it is read
    from the project's state. ``rollback`` and ``promote`` raise then (``ApiError.uncertain``), and
    :meth:`wait_moved` tells.

    :param place: as ``Place.named`` gives it
    :param read_only: nothing is written, as in check mode
    """

    def __init__(
        self, place: Place, *, access_token: str, ca_cert: str | None, timeout_s: float, read_only: bool
    ) -> None:
        self.place = place
        #: As preflight names it.
        self.target = Target("vercel_project", place.api_url, place.project_id)
        self._id = place.project_id
        self._team: Query = (("teamId", place.team_id),) if place.team_id else ()
        self._api = ApiClient(
            service="Vercel",
            base_url=place.api_url,
            headers={"Authorization": f"Bearer {access_token}"},
            secrets={"access_token": access_token},
            read_only=read_only,
            timeout_s=timeout_s,
            reset_headers=("x-ratelimit-reset",),
            fixes=_FIXES,
            ca_cert=ca_cert,
        )

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> Vercel:
        """The project, as a module's options say.

        :raises RunbookError: the address or an id is none
        """
        return cls(
            Place.named(params["api_url"], params["project_id"], params["team_id"]),
            access_token=params["access_token"],
            ca_cert=params["ca_cert"],
            timeout_s=params["timeout_s"],
            read_only=read_only,
        )

    # Deployments ------------------------------------------------------------------------------------------------------

    def project(self) -> Project:
        """The project and its state."""
        return Project.read(self._api.get(f"/v9/projects/{self._id}", self._team))

    def deployments(
        self,
        target: str = PRODUCTION,
        *,
        state: str = "",
        commit: str = "",
        since: datetime | None = None,
        most: int = 0,
    ) -> list[Deployment]:
        """Deployments of the project, the newest first.

        :param target: ``production``, ``preview``, or empty for all
        :param state: states, separated by commas; all where it is empty
        :param commit: of this commit alone, by its whole hash
        :param since: made after this moment
        :param most: no further page is asked for once there are so many, as a project may have thousands; 0 for all
        """
        query = (
            ("projectId", self._id),
            *((("target", target),) if target else ()),
            *((("state", state),) if state else ()),
            *((("sha", commit),) if commit else ()),
            *((("since", str(int(since.timestamp() * 1000))),) if since else ()),
            ("limit", str(_PAGE)),
            *self._team,
        )
        further, seen = by_cursor("pagination", "next", parameter="until"), 0

        def follow(page: Page) -> Query | None:
            nonlocal seen
            seen += len(page.items)
            return None if most and seen >= most else further(page)

        found = [Deployment.read(each) for each in self._api.pages("/v7/deployments", follow, items="deployments",
                                                                   query=query)]  # fmt: skip
        # A page begins with the moment at which the last one ended.
        by_id = {each.id: each for each in found}
        return sorted(by_id.values(), key=lambda each: (each.created_at, each.id), reverse=True)

    def deployment(self, id_or_url: str) -> Deployment:
        """One deployment, by its id or its host name.

        :raises RunbookError: there is none
        """
        return Deployment.read(self._api.get(f"/v13/deployments/{id_or_url}", self._team))

    def redeploy(self, source: Deployment, key: str) -> Ensured[Deployment]:
        """Build the commit of ``source`` again, with the environment variables of now.

        :param key: natural key of this redeployment; one that was asked for under it, and has not failed, is found
        :returns: None is in it where check mode would make one
        """

        def find() -> Deployment | None:
            made = self.deployments(source.target or "preview", since=source.created_at)
            return next((each for each in made if each.key == key and each.state not in FAILED), None)

        def create() -> Deployment:
            body = {
                "name": source.name,
                "deploymentId": source.id,
                "meta": {"action": "redeploy", KEY: key},
                **({"target": source.target} if source.target else {}),
            }
            return Deployment.read(self._api.post("/v13/deployments", body, (("forceNew", "1"), *self._team)))

        return self._api.ensure(find, create)

    def wait_ready(
        self, deployment_id: str, *, timeout_s: float, tell: Callable[[str, float], None], poll_s: float = 5.0
    ) -> Deployment:
        """Wait until a deployment is built.

        :param tell: is told the state and the seconds so far
        :raises RunbookError: it failed (code ``deployment_failed``)
        :raises UnreachableError: it is not built in time (code ``deployment_slow``), or nobody answers
        """
        begun = time.monotonic()
        while True:
            found, waited_s = self.deployment(deployment_id), time.monotonic() - begun
            tell(found.state, waited_s)
            if found.state == READY:
                return found
            if found.state in FAILED:
                raise RunbookError(
                    f"Deployment {found.id} is {found.state}{f': {found.error}' if found.error else ''}; the domains "
                    "lead where they led before. Look at its build log.",
                    code="deployment_failed",
                )
            if waited_s >= timeout_s:
                raise UnreachableError(
                    f"Deployment {found.id} is {found.state} after {waited_s:.0f} s; look at its build log, and run "
                    "this again: it is waited for and not made a second time.",
                    code="deployment_slow",
                )
            time.sleep(poll_s)

    def rollback(self, deployment_id: str, description: str) -> None:
        """Let the production domains lead back to an earlier deployment; asked for once, see :meth:`wait_moved`.

        :raises ApiError: refused, or no answer in time; ``uncertain`` tells which
        """
        path = f"/v1/projects/{self._id}/rollback/{deployment_id}"
        self._api.post(path, None, (("description", description[:250]), *self._team), repeat=Repeat.UNDONE)

    def promote(self, deployment_id: str) -> None:
        """Let the production domains lead to a deployment, without a build; asked for once, see :meth:`wait_moved`.

        It also lets later pushes go live by themselves again.

        :raises ApiError: as :meth:`rollback`
        """
        self._api.post(
            f"/v10/projects/{self._id}/promote/{deployment_id}", None, self._team, repeat=Repeat.UNDONE
        )  # fmt: skip

    def wait_moved(
        self,
        deployment_id: str,
        since: AliasRequest | None,
        *,
        timeout_s: float,
        tell: Callable[[str, float], None],
        poll_s: float = 2.0,
    ) -> Project:
        """Wait until the production domains lead to a deployment.

        :param since: the last request before the one that is waited for; it is none of ours
        :param tell: is told the state of the request and the seconds so far
        :returns: the project afterwards
        :raises RunbookError: the request failed (code ``move_failed``), or another one took its place
        :raises UnreachableError: it is not over in time, or was never seen (code ``move_slow``)
        """
        begun = time.monotonic()
        while True:
            project, waited_s = self.project(), time.monotonic() - begun
            asked = project.alias_request
            is_new = (
                asked is not None and asked != since and (since is None or asked.requested_at >= since.requested_at)
            )
            status = asked.status if asked is not None and is_new else "not seen"
            tell(status, waited_s)
            if asked is not None and is_new and asked.to_id != deployment_id:
                raise RunbookError(
                    f"Somebody else asked for a {asked.type} to {asked.to_id} meanwhile ({asked.status}); look at the "
                    "project's dashboard before anything is asked for again.",
                    code="move_overtaken",
                )
            if status == SUCCEEDED:
                return project
            if status in OVER:
                failed = self.failed_aliases()
                raise RunbookError(
                    f"The domains were not moved to {deployment_id}: the request {status}"
                    f"{', and these domains lead elsewhere: ' + ', '.join(failed) if failed else ''}. Look at the "
                    "project's dashboard.",
                    code="move_failed",
                    failed_domains=failed,
                )
            if waited_s >= timeout_s:
                raise UnreachableError(
                    f"The move of the domains to {deployment_id} is {status} after {waited_s:.0f} s; it was asked for "
                    "once and is not asked for again. Look at the project's dashboard.",
                    code="move_slow",
                )
            time.sleep(poll_s)

    def failed_aliases(self) -> list[str]:
        """Domains that the last move left where they were."""
        query = (("failedOnly", "true"), ("limit", str(_PAGE)), *self._team)
        body = self._api.get(f"/v1/projects/{self._id}/promote/aliases", query)
        found = body.get("aliases") if isinstance(body, dict) else None
        return sorted(str(each.get("alias")) for each in found or () if isinstance(each, dict))

    # Environment variables --------------------------------------------------------------------------------------------

    def env(self) -> list[Variable]:
        """The environment variables, without their values."""
        found = self._api.pages(f"/v10/projects/{self._id}/env", _by_until, items="envs", query=self._team)
        by_id = {each.id: each for each in map(Variable.read, found)}
        return sorted(by_id.values(), key=lambda each: (each.name, each.targets, each.git_branch, each.id))

    def value(self, variable_id: str) -> str | None:
        """The value of a variable; None where Vercel gives it to nobody (type ``sensitive``)."""
        body = self._api.get(f"/v1/projects/{self._id}/env/{variable_id}", self._team)
        value = body.get("value") if isinstance(body, dict) else None
        # A value that is not decrypted is its cipher.
        is_plain = isinstance(body, dict) and (body.get("type") == "plain" or body.get("decrypted") is True)
        return value if is_plain and isinstance(value, str) else None

    def set_env(self, settings: Sequence[Setting]) -> Written:
        """Write variables; one that is there, of the same name and targets, is replaced.

        Deployments of before keep what was in them when they were built.

        :raises RunbookError: some were refused (code ``env_partly_written``), or all; what Vercel says of them is left
            out, as it may repeat a value
        """
        body = [each.body() for each in settings]
        query = (("upsert", "true"), *self._team)
        try:
            # A second sending leaves what the first one left.
            said = self._api.post(f"/v10/projects/{self._id}/env", body, query, repeat=Repeat.ALWAYS)
        except ApiError as error:
            raise _without_words(error, "write the environment variables") from None
        return Written.read(said)

    def edit_env(self, variable_id: str, setting: Setting) -> None:
        """Let a variable that is there be as ``setting`` says.

        :raises RunbookError: refused; what Vercel says of it is left out, as it may repeat a value
        """
        body = setting.body() | {"gitBranch": setting.git_branch or None, "comment": setting.comment}
        try:
            self._api.patch(
                f"/v9/projects/{self._id}/env/{variable_id}", body, self._team, repeat=Repeat.ALWAYS
            )  # fmt: skip
        except ApiError as error:
            raise _without_words(error, f"change {setting.name}") from None

    def delete_env(self, variable_id: str) -> None:
        """Remove a variable; one that is gone is no error.

        :raises RunbookError: refused
        """
        try:
            self._api.delete(f"/v9/projects/{self._id}/env/{variable_id}", None, self._team)
        except ApiError as error:
            if error.http_status != 404:
                raise _without_words(error, "remove an environment variable") from None

    def follow_pushes(self, *, on: bool) -> None:
        """Whether the domains follow pushes to the production branch."""
        self._api.patch(f"/v9/projects/{self._id}", {"autoAssignCustomDomains": on}, self._team, repeat=Repeat.ALWAYS)


def _by_until(page: Page) -> Query | None:
    """As other lists of Vercel's, and whole where nothing is said of a next page."""
    if "pagination" not in page.body:
        return None
    return by_cursor("pagination", "next", parameter="until")(page)


def _without_words(error: ApiError, act: str) -> ApiError:
    """The same error without what the service said, which may repeat what it was sent."""
    if error.http_status is None:
        said = f"Vercel gave no answer to the request to {act}"
    else:
        fix = _FIXES.get(error.http_status, "look at their names, types and targets")
        said = f"Vercel refused to {act} with {error.http_status}; {fix}"
    return ApiError(
        f"{said}. What it said is left out, as it may repeat a value.",
        http_status=error.http_status,
        uncertain=error.uncertain,
    )
