"""Pages and files of an application: out of a build's folder, or as a server sends them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.web import encodings
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web.bundle import MAX_FILES
from ansible.module_utils.runbook.rules.words import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.clock import Clock

#: Larger than this no text of a build is.
_MOST_BYTES = 32 * 1024 * 1024
#: With these nobody knows whether a file is there; with the others below 500 it is not.
_UNSURE = (401, 408, 425, 429)
#: Within which the options lie that :func:`options` has for all.
BOUNDS = {"timeout_s": (1, 600), "deadline_s": (1, 14_400)}
#: Code of the error where another page stands in the place of a file.
ELSEWHERE = "elsewhere"
#: Redirects that a page may lead through.
_REDIRECTS = 5


@dataclass(frozen=True)
class Served:
    """A file as a server sends it; names of headers in small letters."""

    url: str
    status: int
    headers: dict[str, str]
    #: As it travels.
    body: bytes

    @property
    def encoding(self) -> str:
        """``br``, ``gzip``, or empty."""
        return self.headers.get("content-encoding", "").strip().lower()

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def content(self) -> bytes:
        """What was compressed for the way.

        :raises RunbookError: ``unknown``, it cannot be read
        """
        try:
            return encodings.plain(self.body, self.encoding, _MOST_BYTES)
        except ValueError as error:
            said = f"{without_secrets(self.url)}: its body cannot be read: {error}."
            raise RunbookError(said, status=Status.UNKNOWN) from None


class Source(Protocol):
    """Where the files of a build are."""

    def start_page(self) -> str:
        """The HTML of the first page.

        :raises RunbookError: there is none
        """

    def read(self, path: str) -> bytes | None:
        """A file by its path below the build; None where there is none.

        :raises RunbookError: it cannot be read
        """

    def below(self, url: str) -> str | None:
        """The path below the build of what HTML names; None for what belongs to another site."""

    def listed(self) -> list[str] | None:
        """All its paths; None where nobody can list them."""


class Folder:
    """A build on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_dir():
            raise RunbookError(f"folder: {path} is no folder; name the one that the build writes, such as dist.")

    def start_page(self) -> str:
        """As :meth:`Source.start_page`."""
        found = self.read("index.html")
        if found is None:
            raise RunbookError(f"folder: {self._path} has no index.html; name the folder that the build writes.")
        return found.decode(errors="replace")

    def read(self, path: str) -> bytes | None:
        """As :meth:`Source.read`."""
        wanted = (self._path / path).resolve()
        if not wanted.is_relative_to(self._path.resolve()) or not wanted.is_file():
            return None
        try:
            return wanted.read_bytes()
        except OSError as error:
            raise RunbookError(f"folder: {wanted} cannot be read: {error.strerror}.", status=Status.UNKNOWN) from None

    def below(self, url: str) -> str | None:
        """As :meth:`Source.below`."""
        return None if urlsplit(url).netloc else urlsplit(url).path.lstrip("/").removeprefix("./")

    def listed(self) -> list[str] | None:
        """As :meth:`Source.listed`."""
        found = []
        for top, folders, files in os.walk(self._path):
            folders[:] = sorted(each for each in folders if each != "node_modules")
            found += [str(Path(top, each).relative_to(self._path)) for each in sorted(files)]
            if len(found) > 20 * MAX_FILES:
                raise RunbookError(f"folder: {self._path} has more files than a build; name the folder that it writes.")
        return found


class Site:
    """What a server sends.

    :param is_another: whether a redirect from the first address to the second leads to another page than was meant
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        is_another: Callable[[str, str], bool],
        *,
        timeout_s: float,
        ca_cert: str | None = None,
    ) -> None:
        self.url = url
        self._is_another = is_another
        self._clock = clock
        self._timeout_s = timeout_s
        self._ca_cert = ca_cert
        self._known: dict[str, Served] = {}

    def get(self, url: str, *, again: bool = False) -> Served:
        """A file, through as many redirects as browsers follow; each is asked for once.

        A redirect to another host is not followed: it leads to a page to log in, or to where this machine may go and
        nobody else.

        :param again: ask in any case
        :raises RunbookError: ``unknown``, no answer, another page in the place of this one, or the time is over
        """
        if url in self._known and not again:
            return self._known[url]
        at, named = url, without_secrets(url)
        for _ in range(_REDIRECTS + 1):
            if self._clock.is_over():
                raise RunbookError(
                    f"{named} was not asked for in the time that there was; give more in deadline_s.",
                    status=Status.UNKNOWN,
                )
            client = ApiClient(
                service=without_secrets(at), base_url=at, headers={"Accept-Encoding": "br, gzip"}, secrets={},
                read_only=True, timeout_s=self._timeout_s, ca_cert=self._ca_cert, options=("", "ca_cert"),
            )  # fmt: skip
            found = client.look()
            if found.status not in (301, 302, 303, 307, 308) or "location" not in found.headers:
                self._known[url] = Served(at, found.status, dict(found.headers), found.body)
                return self._known[url]
            at = urljoin(at, found.headers["location"])
            if urlsplit(at).scheme not in ("http", "https"):
                break
            if self._is_another(url, at):
                raise RunbookError(
                    f"{named} leads to {without_secrets(at)}, a page to log in or of another host, and was not read; "
                    "name a page that needs no login, or the one that it leads to.",
                    status=Status.UNKNOWN,
                    code=ELSEWHERE,
                )
        raise UnreachableError(f"{named} leads on and on, last to {without_secrets(at)}; name the page that is meant.")

    def start_page(self) -> str:
        """As :meth:`Source.start_page`."""
        found = self.get(self.url)
        if found.status != 200:
            raise RunbookError(f"{self.url} answers with {found.status}; mend the page first.")
        return found.content().decode(errors="replace")

    def read(self, path: str) -> bytes | None:
        """As :meth:`Source.read`."""
        found = self.get(urljoin(self._top(), f"/{path}"))
        if found.status != 200 and (not 400 <= found.status < 500 or found.status in _UNSURE):
            # Without it the build would look smaller than it is.
            raise RunbookError(f"{without_secrets(found.url)} answers with {found.status}.", status=Status.UNKNOWN)
        # A single-page application answers with its first page for whatever it does not have.
        is_page = found.content_type == "text/html" and not path.endswith((".html", "/"))
        return found.content() if found.status == 200 and not is_page else None

    def below(self, url: str) -> str | None:
        """As :meth:`Source.below`."""
        whole = urlsplit(urljoin(self.get(self.url).url, url))
        return whole.path.lstrip("/") if whole.netloc == urlsplit(self._top()).netloc else None

    def listed(self) -> list[str] | None:
        """As :meth:`Source.listed`."""
        return None

    def _top(self) -> str:
        return self.get(self.url).url


def options() -> dict[str, dict[str, Any]]:
    """Options of modules that ask a server."""
    return {
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
        "deadline_s": {"type": "int", "default": 600},
    }
