"""The one family of errors that the project raises."""

from __future__ import annotations

from ansible.module_utils.runbook.rules.status import Status


class RunbookError(Exception):
    """Work was refused or left undone.

    ``message`` is one sentence for the person on duty: what was asked, what was found, and the fix. ``context``
    becomes part of the module's result, so figures of the work already done (``changed``, ``moved_rows`` …) are not
    lost with the failure. Neither may hold a secret or the content of a row.

    Two entries of the context mean the same everywhere. ``code`` is one word for code that has to tell errors apart:
    none ever reads a sentence. ``status`` is ``breach`` where it is not said. Who puts a sentence around an error
    passes its context on: ``RunbookError(f"… {error.message}", **(figures | error.context))``.
    """

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    @property
    def code(self) -> str:
        """One word that names the error; empty where nobody has to tell it from others."""
        return str(self.context.get("code") or "")

    @property
    def status(self) -> Status:
        """What the error says of what was asked: that it is not as it must be, or that nobody knows."""
        return Status(str(self.context.get("status") or Status.BREACH))


class UnreachableError(RunbookError):
    """A server or a service gave no answer, so nothing is known of what was asked."""

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message, **({"status": Status.UNKNOWN} | context))
