"""The one family of errors that the project raises."""

from __future__ import annotations


class RunbookError(Exception):
    """Work was refused or left undone.

    ``message`` is one sentence for the person on duty: what was asked, what was found, and the cure. ``context``
    becomes part of the module's result, so figures of the work already done (``changed``, ``moved_rows`` …) are not
    lost with the failure. Neither may hold a secret or the content of a row.
    """

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.context = context
