"""AWX, or an automation controller, as far as it is only read; the collection awx.awx writes.

The API: https://docs.ansible.com/automation-controller/latest/html/controllerapi/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.http.api_pages import by_next
from ansible.module_utils.runbook.rules.observe.access import Access
from ansible.module_utils.runbook.rules.schedule.leftovers import Schedule, Template

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A schedule that fires in the meantime moves in AWX's own order, and could be missing on both pages.
_IN_ORDER = (("order_by", "id"), ("page_size", "200"))


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name it."""
    return {
        "controller_url": {"type": "str", "required": True},
        "controller_token": {"type": "str", "required": True, "no_log": True},
        "controller_validate_certs": {"type": "bool", "default": True},
    }


def client(params: Mapping[str, Any]) -> ApiClient:
    """The API that a module's options name.

    :raises RunbookError: the token would travel unencrypted, or stands in the address
    """
    token = params["controller_token"]
    return ApiClient(
        service="AWX",
        base_url=Access.of("controller", params, params["controller_url"], option="controller_url").url,
        headers={"Authorization": f"Bearer {token}"},
        secrets={"controller_token": token},
        read_only=True,
        fixes={401: "renew controller_token", 403: "let the user of controller_token administrate the organization"},
        options=("controller_url", "controller_validate_certs"),
        validate_certs=params["controller_validate_certs"],
    )


def templates(api: ApiClient, organization: int) -> list[Template]:
    """All job templates and workflows of an organization.

    :raises RunbookError: AWX does not list them
    """
    query = (("organization", str(organization)), *_IN_ORDER)
    return [
        Template.of(each)
        for kind in ("job_templates", "workflow_job_templates")
        for each in api.pages(f"/api/v2/{kind}/", by_next, items="results", query=query)
    ]


def schedules(api: ApiClient) -> list[Schedule]:
    """All schedules that the token's user sees.

    :raises RunbookError: AWX does not list them
    """
    return [Schedule.of(each) for each in api.pages("/api/v2/schedules/", by_next, items="results", query=_IN_ORDER)]
