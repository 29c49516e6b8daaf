"""What a page shows to somebody outside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.http.api_client import Answer

#: Longest wait for one answer, and the pause before the next look, in seconds.
_ANSWER_S = 10.0
_PAUSE_S = 1.0


def pages_option() -> dict[str, Any]:
    """The option ``pages``; documented in ``doc_fragments/runbook_pages.py``."""
    page = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "status": {"type": "int", "default": 200},
        "text": {"type": "str", "default": ""},
        "version": {"type": "str", "default": ""},
        "version_header": {"type": "str", "default": ""},
        "version_field": {"type": "str", "default": ""},
        "ca_cert": {"type": "path"},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": page}


@dataclass(frozen=True)
class Seen:
    """What became of looking until it was as it must be."""

    #: What is not as it must be; empty where all is.
    lacks: str
    #: Whether the last look got an answer.
    answered: bool
    looks: int


def client(url: str, ca_cert: str | None = None, *, answer_s: float = _ANSWER_S) -> ApiClient:
    """Looks at one page; a redirect is not followed.

    :raises RunbookError: ``ca_cert`` cannot be read
    """
    return ApiClient(
        service=url, base_url=url, headers={}, secrets={}, read_only=True, timeout_s=answer_s, ca_cert=ca_cert,
        options=("", "ca_cert"),
    )  # fmt: skip


def wait_for(page: ApiClient, lacks: Callable[[Answer], str], *, wait_s: float) -> Seen:
    """Look at a page until it is as it must be, or until ``wait_s`` have passed; at least once.

    :param lacks: what an answer lacks; empty where it is as it must be
    """
    until = time.monotonic() + wait_s
    looks = 0
    while True:
        looks += 1
        try:
            seen = Seen(lacks(page.look()), answered=True, looks=looks)
        except UnreachableError as error:
            seen = Seen(error.message.rstrip("."), answered=False, looks=looks)
        if not seen.lacks or time.monotonic() + _PAUSE_S > until:
            return seen
        time.sleep(_PAUSE_S)
