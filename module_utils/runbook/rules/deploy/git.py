"""A git repository as the inventory names it, and what a server says that refuses.

git has no codes for its errors. With LC_ALL=C its sentences are fixed, and ``push --porcelain`` writes a line for each
branch (git-push(1), OUTPUT), so the cause is looked for there and said in words of ours: what git prints may quote
whatever a server's hook printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import is_loopback
from ansible.module_utils.runbook.rules.status import Status

#: Branches that this project makes; no other is ever rewritten.
OURS = "runbook/"
#: The id of a commit: SHA-1, or SHA-256 in a repository of that format.
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: As git-check-ref-format(1), without what a shell or a URL would have to quote.
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)))[A-Za-z0-9_][A-Za-z0-9._/+-]*(?<![/.])")
#: ``user@host:path``, which ssh(1) is given.
_SCP = re.compile(r"(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*:(?!//)[\w./~-][\w./~+-]*")


@dataclass(frozen=True)
class Place:
    """Where a repository is, and which one it is."""

    url: str
    #: Its first commit: the end of the line of first parents. A copy that somebody else grew has another one.
    root: str

    @classmethod
    def named(cls, url: str, root: str) -> Place:
        """The repository that the options name.

        :param root: may be empty, where it is to be found out
        :raises RunbookError: the address is none, would send a token unencrypted, or holds a password
        """
        parts = urlsplit(url)
        if url.startswith("/") or _SCP.fullmatch(url):
            known = True
        else:
            known = parts.scheme in ("https", "http", "ssh") and bool(parts.hostname) and not parts.query
        if not known or "\n" in url:
            raise RunbookError(
                f"repository: {url!r} is no address of a git repository; give https://host/path, git@host:path, or the "
                "path of a folder."
            )
        if parts.password or (parts.username and parts.scheme in ("https", "http")):
            raise RunbookError(
                "repository: the address holds a user or a password; give them as repository_user and repository_token."
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise RunbookError(f"repository: {url!r} would send everything unencrypted; use https.")
        if root and not _COMMIT.fullmatch(root):
            raise RunbookError(
                f"repository_root: {root!r} is not the id of a commit; take all 40 letters that git rev-list "
                "--max-parents=0 --first-parent prints for the branch, or leave it empty to be told."
            )
        return cls(url.rstrip("/") or url, root)

    def require(self, found: str) -> None:
        """Refuse another repository than the one that is meant.

        :param found: first commit of the one that answered
        :raises RunbookError: it is another one, or none is pinned
        """
        if not self.root:
            raise RunbookError(
                f"repository_root: the inventory does not say which repository it means; {self.url} begins with "
                f"{found}. If that is the right one, pin it: app_repository_root: {found}"
            )
        if found != self.root:
            raise RunbookError(
                f"{self.url} is another repository: it begins with commit {found}, and the inventory means the one "
                f"that begins with {self.root}; correct repository or repository_root."
            )


def check_branch(option: str, name: str) -> str:
    """The name of a branch, without refs/heads/.

    :raises RunbookError: it is none
    """
    if not name:
        raise RunbookError(f"{option}: it is empty; name the branch.")
    if not _BRANCH.fullmatch(name) or name.startswith("refs/"):
        raise RunbookError(f"{option}: {name!r} is not the name of a branch; give one like main.")
    return name


def check_commit(option: str, commit: str) -> str:
    """The full id of a commit.

    :raises RunbookError: it is none
    """
    if not _COMMIT.fullmatch(commit):
        raise RunbookError(f"{option}: {commit!r} is not the full id of a commit; git rev-parse prints it.")
    return commit


@dataclass(frozen=True)
class Refusal:
    """Why git did not do what it was asked: a code for code, a sentence for people."""

    code: str
    #: Without a subject; it follows the repository's address.
    sentence: str
    status: Status = Status.BREACH

    @classmethod
    def of(cls, said: str) -> Refusal:
        """The cause in what git printed; the first that fits.

        >>> Refusal.of("fatal: Authentication failed for 'https://example.org/x'").code
        'git_denied'
        """
        for pattern, refusal in _CAUSES:
            if re.search(pattern, said, re.IGNORECASE):
                return refusal
        return cls("git_failed", "git failed for a reason that is not known here; try git by hand.", Status.UNKNOWN)


#: Phrases of git and of servers, with their cause, in the order in which they are looked for: what is said of a branch,
#: then of the right, then of the way.
_CAUSES: tuple[tuple[str, Refusal], ...] = (
    (
        "stale info|fetch first|non-fast-forward|already exists|cannot lock ref|failed to update ref",
        Refusal("git_moved", "somebody else pushed to the branch meanwhile; run the same command again."),
    ),
    (
        "protected branch|GH006|GH013|not allowed to push|protected from|due to repository rule",
        Refusal(
            "git_protected",
            "the branch is protected, and the server refused the push; let the inventory name a branch that may be "
            "pushed to, and open a pull request, or permit this user.",
        ),
    ),
    (
        "hook declined|remote rejected",
        Refusal("git_declined", "a rule of the server refused the push; its own log says which."),
    ),
    (
        "dubious ownership",
        Refusal("git_denied", "the folder belongs to another user; run this as the user who owns it."),
    ),
    (
        "host key verification failed|remote host identification has changed",
        Refusal(
            "git_denied",
            "the server's SSH key is not among the known ones; put it into the file repository_known_hosts_file.",
        ),
    ),
    (
        "authentication failed|could not read (username|password)|(permission|access) denied|error: 40[13]",
        Refusal(
            "git_denied",
            "the server does not admit this user; check repository_token or repository_ssh_key_file, and their rights.",
        ),
    ),
    (
        "repository .*not found|not (appear to be )?a git repository|does not exist|error: 404",
        Refusal(
            "git_absent",
            "there is no such repository, or this user may not see it; check repository and repository_token.",
        ),
    ),
    (
        "couldn't find remote ref|remote branch .* not found",
        Refusal("git_no_branch", "the branch is not there; check its name."),
    ),
    (
        "certificate|SSL|TLS",
        Refusal(
            "git_tls",
            "the server's certificate is not trusted; check the address and repository_ca_cert.",
            Status.UNKNOWN,
        ),
    ),
    (
        "not resolve|connection (refused|timed out|reset)|failed to connect|unreachable|no route|hung up|error: 5",
        Refusal("git_unreachable", "the server does not answer; try again later.", Status.UNKNOWN),
    ),
    (
        "no space left",
        Refusal("git_disk", "the disk is full; make room in the folder of temporary files.", Status.UNKNOWN),
    ),
)
