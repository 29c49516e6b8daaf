"""The job of AWX or of CI that a run is, by what these set in its environment: who started it, and at which commit.

AWX runs in a container, whose user, host name and process numbers mean nothing to anybody; and it gives a project
without its ``.git``.

Sources: https://docs.ansible.com/automation-controller/latest/html/userguide/job_templates.html (awx_user_name …),
https://docs.github.com/en/actions/reference/workflows-and-actions/variables,
https://docs.gitlab.com/ci/variables/predefined_variables/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: ansible-runner sets it to the folder whose files come back from where the run was.
ARTIFACTS = "AWX_ISOLATED_DATA_DIR"


@dataclass(frozen=True)
class Job:
    """A job; None or empty where nobody said it."""

    #: As a person would look for it: ``AWX job 42``.
    name: str
    user: str
    commit: str | None


def has_slice(extra: Mapping[str, object]) -> bool:
    """Whether a run may have only a slice of its inventory: AWX makes a workflow of a job that it slices.

    :param extra: what ``-e`` said

    >>> has_slice({"awx_workflow_job_id": 7}), has_slice({"awx_job_id": 8})
    (True, False)
    """
    return any(extra.get(f"{brand}_workflow_job_id") for brand in ("awx", "tower"))


def of(environ: Mapping[str, str], extra: Mapping[str, object]) -> Job | None:
    """The job that this run is; None where a person, or a timer, started it.

    :param extra: what ``-e`` said; AWX says so who started the job

    >>> of({"AWX_ISOLATED_DATA_DIR": "/runner/artifacts/42", "JOB_ID": "42"}, {"awx_user_name": "ada"})
    Job(name='AWX job 42', user='ada', commit=None)
    >>> of({"JOB_ID": "42"}, {})
    """
    if environ.get(ARTIFACTS) and environ.get("JOB_ID"):
        # A schedule has no user, and a name.
        names = [f"{brand}_{what}_name" for what in ("user", "schedule") for brand in ("awx", "tower")]
        user = next((str(extra[name]) for name in names if extra.get(name)), "")
        return Job(f"AWX job {environ['JOB_ID']}", user, environ.get("PROJECT_REVISION") or None)
    if environ.get("GITHUB_ACTIONS") == "true":
        return Job(
            f"GitHub Actions run {environ.get('GITHUB_RUN_ID', '')}".rstrip(),
            environ.get("GITHUB_ACTOR", ""),
            environ.get("GITHUB_SHA") or None,
        )
    if environ.get("GITLAB_CI") == "true":
        return Job(
            f"GitLab job {environ.get('CI_JOB_ID', '')}".rstrip(),
            environ.get("GITLAB_USER_LOGIN", ""),
            environ.get("CI_COMMIT_SHA") or None,
        )
    return None
