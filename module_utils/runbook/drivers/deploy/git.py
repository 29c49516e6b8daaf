"""A git repository, through the program ``git``.

The repository is cloned bare into a folder of its own, which is gone afterwards. Files are read and committed without
being checked out, so neither a hook nor a filter nor a link in it ever runs or leads anywhere. No configuration of the
user, of the machine or of the clone is followed: an application's own scripts, which may have run before, cannot say
which program git starts.

The token travels in git's environment, never on a command line or in an address, and goes to the host of the
repository alone; a git that asks no server does not have it.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import child_process, folders
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.deploy.git import OURS, Place, Refusal
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BOUNDS = {"repository_timeout_s": (1, 3600)}
#: Of the bastion's environment, what git needs to reach a server.
_INHERITED = (
    "PATH", "TMPDIR", "SSH_AUTH_SOCK", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip
#: What reaches the server.
_ASKING = frozenset({"clone", "fetch", "ls-remote", "push"})
#: A regular file, as git's trees write it.
_FILE_MODES = ("100644", "100755")


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module with a repository; documented in ``doc_fragments/runbook_repository.py``."""
    return {
        "repository": {"type": "str", "required": True},
        "repository_root": {"type": "str"},
        "repository_user": {"type": "str", "default": "x-access-token"},
        "repository_token": {"type": "str", "no_log": True},
        "repository_ssh_key_file": {"type": "path"},
        "repository_known_hosts_file": {"type": "path"},
        "repository_ca_cert": {"type": "path"},
        "committer_name": {"type": "str", "default": "Runbook"},
        "committer_email": {"type": "str"},
        "repository_timeout_s": {"type": "int", "default": 300},
    }


class Repository:
    """One remote repository and a bare clone of it, for the length of a ``with`` block.

    :param params: as :func:`argument_spec` has them
    :param read_only: nothing is pushed, as in check mode
    :raises RunbookError: the address or the root is none, or git is not installed
    """

    def __init__(self, params: Mapping[str, Any], *, read_only: bool) -> None:
        self._place = Place.named(params["repository"], params["repository_root"] or "")
        #: As preflight names it.
        self.target = Target("repository", self._place.url, self._place.root)
        git = shutil.which("git")
        if git is None:
            raise RunbookError("git is not installed here; install the package git.")
        self._git = git
        self._read_only = read_only
        self._timeout_s = params["repository_timeout_s"]
        self._committer = (params["committer_name"], params["committer_email"] or "")
        self._params = params
        self._folder: Path | None = None
        self._held = ExitStack()

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> Repository:
        """The repository that a module's options name."""
        return cls(params, read_only=read_only)

    def __enter__(self) -> Repository:
        self._folder = self._held.enter_context(folders.temporary("runbook-git-"))
        (self._folder / "home").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        self._folder = None

    @property
    def _work(self) -> Path:
        if self._folder is None:
            raise TypeError("a Repository is used in a with block")
        return self._folder

    @property
    def _clone(self) -> Path:
        return self._work / "clone"

    # --- reading ------------------------------------------------------------------------------------------------------

    def heads(self, *branches: str) -> dict[str, str]:
        """The commits that the server has on these branches now; a branch that is not there is left out."""
        names = [f"refs/heads/{branch}" for branch in branches]
        lines = self._ask("ls-remote", "--", self._place.url, *names).splitlines()
        found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
        return {branch: found[name] for branch, name in zip(branches, names, strict=True) if name in found}

    def first_commit(self, branch: str) -> str:
        """The end of the branch's line of first parents, from its history alone: no file is fetched.

        :raises RunbookError: the repository or the branch is not there
        """
        self._get(branch, "--filter=tree:0")
        return self._root(f"refs/heads/{branch}")

    def fetch(self, branch: str) -> str:
        """Fetch a branch with its history, and see that it is of the repository that is meant.

        :return: its commit
        :raises RunbookError: it is not there, or of another repository
        """
        if self._clone.exists():
            self._ask("fetch", "--quiet", "--no-tags", self._place.url, f"+refs/heads/{branch}:refs/heads/{branch}")
        else:
            self._get(branch)
        self._place.require(self._root(f"refs/heads/{branch}"))
        return self._local("rev-parse", "--verify", f"refs/heads/{branch}").strip()

    def read(self, commit: str, path: str) -> bytes | None:
        """A file as it is in a commit; None where there is none.

        :raises RunbookError: what is there is no regular file
        """
        found = self._entry(commit, path)
        if found is None:
            return None
        return self._run("cat-file", "blob", found[1]).stdout

    def export(self, commit: str, folder: Path) -> None:
        """Write the files of a commit into a folder, without the repository."""
        folder.mkdir(exist_ok=True)
        index = {"GIT_INDEX_FILE": str(self._work / "export"), "GIT_WORK_TREE": str(folder)}
        self._local("read-tree", commit, more=index)
        self._local("checkout-index", "--all", "--force", more=index)

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether ``other`` contains ``one``."""
        return self._run("merge-base", "--is-ancestor", one, other, may_fail=True).code == 0

    def parents(self, commit: str) -> list[str]:
        """The commits that a commit was made on; a merge has two.

        :raises RunbookError: it is on no branch that was fetched
        """
        done = self._run("rev-list", "--parents", "--max-count=1", commit, "--", may_fail=True)
        if done.code != 0:
            raise RunbookError(f"{self._place.url}: commit {commit} is on no branch that was fetched; check its id.")
        return done.stdout.decode().split()[1:]

    def common(self, one: str, other: str) -> str:
        """The newest commit that both contain; both are of one repository, so there is one."""
        return self._local("merge-base", one, other).strip()

    def committer(self, commit: str) -> str:
        """The mail address of who made a commit."""
        return self._local("log", "-1", "--format=%ce", commit, "--").strip()

    def same_files(self, one: str, other: str, *, besides: Iterable[str] = ()) -> bool:
        """Whether two commits have the same files, but for some."""
        left_out = [f":(exclude,top,literal){path}" for path in besides]
        return self._run("diff", "--quiet", one, other, "--", ".", *left_out, may_fail=True).code == 0

    def since(self, old: str, new: str) -> list[str]:
        """What came onto a branch after ``old``, up to ``new``, the newest first: merges, and not what is in them.

        :raises RunbookError: one of them is on no branch that was fetched
        """
        self.parents(old)
        self.parents(new)
        return self._local("rev-list", "--first-parent", new, f"^{old}").split()

    # --- commits of ours, which only the clone has until they are pushed ----------------------------------------------

    def commit(self, onto: str, files: Mapping[str, bytes], message: str) -> str:
        """Make a commit that puts the contents of some files.

        :param onto: the commit that it follows
        :param files: by their paths; what is not there is made
        :return: its id; ``onto`` where nothing differs
        :raises RunbookError: there is something else than a regular file at one of the paths
        """
        index = {"GIT_INDEX_FILE": str(self._work / "index")}
        self._local("read-tree", onto, more=index)
        for path, content in files.items():
            found = self._entry(onto, path)
            draft = self._work / "draft"
            draft.write_bytes(content)
            blob = self._local("hash-object", "-w", "--no-filters", str(draft)).strip()
            mode = found[0] if found else _FILE_MODES[0]
            self._local("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", more=index)
        tree = self._local("write-tree", more=index).strip()
        if tree == self._local("rev-parse", f"{onto}^{{tree}}").strip():
            return onto
        return self._local("commit-tree", tree, "-p", onto, "-m", message, more=self._author()).strip()

    def revert(self, commit: str, onto: str) -> str:
        """Make a commit that takes back what ``commit`` did; of a merge, what it brought to its first parent.

        :return: its id; ``onto`` where that is taken back already
        :raises RunbookError: ``onto`` does not contain it (code ``git_not_there``), or what came after it stands
            against it (code ``git_conflict``)
        """
        parents = self.parents(commit)
        if not self.is_ancestor(commit, onto):
            raise RunbookError(
                f"{self._place.url}: commit {commit} is not on the branch, so there is nothing to take back.",
                code="git_not_there",
            )
        mainline = ["--mainline", "1"] if len(parents) > 1 else []
        with self._checkout(onto) as tree:
            done = self._run("revert", "--no-edit", *mainline, commit, tree=tree, may_fail=True)
            return self._made(tree, done, onto, f"revert commit {commit[:12]}")

    def merge(self, other: str, onto: str, message: str) -> str:
        """Merge ``other`` into ``onto``; a merge commit even where a fast-forward would do.

        :return: its id; ``onto`` where that contains ``other``
        :raises RunbookError: both changed the same (code ``git_conflict``)
        """
        if self.is_ancestor(other, onto):
            return onto
        with self._checkout(onto) as tree:
            done = self._run("merge", "--no-ff", "--no-edit", "-m", message, other, tree=tree, may_fail=True)
            return self._made(tree, done, onto, f"merge commit {other[:12]}")

    # --- writing ------------------------------------------------------------------------------------------------------

    def push(self, branch: str, commit: str, expected_old: str) -> bool:
        """Let the server's branch be ``commit``, if it is ``expected_old`` still.

        A branch of somebody else is only ever added to; one of ours (``runbook/``) may be rewritten.

        :param expected_old: the commit that it has; empty where there must be no such branch
        :return: False where it is ``commit`` already
        :raises RunbookError: it is another one by now, the server refuses, or what became of it is not known
        """
        if self._read_only:
            raise RunbookError(f"{self._place.url}: pushing {branch} would write in check mode.")
        if expected_old == commit:
            return False
        if expected_old and not branch.startswith(OURS) and not self.is_ancestor(expected_old, commit):
            raise RunbookError(
                f"{self._place.url}: {commit[:12]} does not contain {expected_old[:12]}, so pushing it to {branch} "
                "would lose commits; nothing was pushed."
            )
        name = f"refs/heads/{branch}"
        done = self._run(
            "push", "--porcelain", f"--force-with-lease={name}:{expected_old}", "--", self._place.url,
            f"{commit}:{name}", may_fail=True,
        )  # fmt: skip
        if done.code == 0:
            return True
        # A lost answer is no refusal: what the server has says what became of it, and nothing is sent again.
        refusal = Refusal.of((done.stdout + done.stderr).decode(errors="replace"))
        try:
            now = self.heads(branch).get(branch, "")
        except RunbookError:
            raise UnreachableError(
                f"{self._place.url}: whether {branch} was pushed is not known, because the server no longer answers; "
                "run the same command again."
            ) from None
        if now == commit:
            return True
        if now != expected_old:
            refusal = Refusal.of("stale info")
        raise self._refused(f"pushing {branch}", refusal)

    def would_push(self, branch: str) -> None:
        """See that a branch of ours could be pushed; nothing is.

        :param branch: one that was fetched, or looked at by :meth:`first_commit`
        :raises RunbookError: the server refuses
        """
        self._ask("push", "--dry-run", "--", self._place.url, f"refs/heads/{branch}:refs/heads/{OURS}doctor")

    # --- git ----------------------------------------------------------------------------------------------------------

    def _get(self, branch: str, *options: str) -> None:
        words = ["--bare", "--single-branch", "--no-tags", "--no-local", *options]
        self._ask("clone", *words, f"--branch={branch}", "--", self._place.url, str(self._clone), cwd=self._work)

    def _root(self, commit: str) -> str:
        return self._local("rev-list", "--max-parents=0", "--first-parent", commit).split()[0]

    def _entry(self, commit: str, path: str) -> tuple[str, str] | None:
        """Mode and id of a file in a commit."""
        found = self._run("ls-tree", "-z", commit, "--", path).stdout.decode().rstrip("\0")
        if not found:
            return None
        mode, _kind, blob = found.partition("\t")[0].split()
        if mode not in _FILE_MODES:
            raise RunbookError(f"{self._place.url}: {path} is no regular file; make it one.")
        return mode, blob

    @contextmanager
    def _checkout(self, commit: str) -> Iterator[Path]:
        """A work tree of a commit; ``revert`` and ``merge`` need one."""
        tree = self._work / "tree"
        self._local("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            self._local("worktree", "remove", "--force", str(tree))

    def _made(self, tree: Path, done: child_process.Finished, onto: str, what: str) -> str:
        """The commit that ``revert`` or ``merge`` made."""
        if done.code == 0:
            return self._local("rev-parse", "--verify", "HEAD", tree=tree).strip()
        unmerged = self._run("diff", "--name-only", "--diff-filter=U", "-z", tree=tree).stdout.decode(errors="replace")
        files = [each for each in unmerged.split("\0") if each]
        if files:
            raise RunbookError(
                f"{self._place.url}: git cannot {what}, because later commits changed the same lines of {some(files)}; "
                "do it by hand on a branch, and have it reviewed.",
                code="git_conflict", conflicts=files,
            )  # fmt: skip
        if not self._run("status", "--porcelain", tree=tree).stdout:
            return onto
        raise self._refused(what, Refusal.of(done.stderr.decode(errors="replace")))

    def _author(self) -> dict[str, str]:
        name, email = self._committer
        if not email:
            raise RunbookError(
                "committer_email: it is not set, and a commit bears one; give the address of a user whom the server "
                "knows."
            )
        who = {"NAME": name, "EMAIL": email}
        return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}

    def _ask(self, *words: str, cwd: Path | None = None) -> str:
        """Something that the server answers."""
        done = self._run(*words, may_fail=True, cwd=cwd)
        if done.code != 0:
            raise self._refused(words[0], Refusal.of(done.stderr.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    def _local(self, *words: str, tree: Path | None = None, more: Mapping[str, str] | None = None) -> str:
        """Something that the clone answers."""
        return self._run(*words, tree=tree, more=more).stdout.decode(errors="replace")

    def _refused(self, what: str, refusal: Refusal) -> RunbookError:
        return RunbookError(f"{self._place.url}: {what}: {refusal.sentence}", code=refusal.code, status=refusal.status)

    def _run(
        self, *words: str, may_fail: bool = False, tree: Path | None = None, cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> child_process.Finished:  # fmt: skip
        needs_author = words[0] in ("revert", "merge")
        done = child_process.run(
            [self._git, *words], cwd=tree or cwd or (self._clone if self._clone.exists() else self._work),
            env=self._environ(asks=words[0] in _ASKING) | dict(more or {}) | (self._author() if needs_author else {}),
            timeout_s=self._timeout_s,
        )  # fmt: skip
        if done.code is None:
            raise UnreachableError(
                f"{self._place.url}: git {words[0]} did not end within {self._timeout_s} s (repository_timeout_s), and "
                "was stopped."
            )
        if done.code != 0 and not may_fail:
            raise self._refused(words[0], Refusal.of(done.stderr.decode(errors="replace")))
        return done

    def _environ(self, *, asks: bool) -> dict[str, str]:
        """The whole environment of git.

        :param asks: whether it is to reach the server
        """
        params = self._params
        settings = {
            # Neither a hook of the clone nor a program that a work tree names.
            "core.hooksPath": os.devnull,
            "core.fsmonitor": "false",
            "credential.helper": "",
            "commit.gpgSign": "false",
            "gc.auto": "0",
            "http.followRedirects": "false",
        }
        if params["repository_ca_cert"]:
            settings["http.sslCAInfo"] = params["repository_ca_cert"]
        if asks and params["repository_token"]:
            pair = ":".join(params[f"repository_{each}"] for each in ("user", "token"))
            login = base64.b64encode(pair.encode()).decode()
            settings[f"http.{self._place.url}.extraHeader"] = f"Authorization: Basic {login}"
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
        if params["repository_ssh_key_file"]:
            ssh += ["-i", params["repository_ssh_key_file"], "-o", "IdentitiesOnly=yes"]
        if params["repository_known_hosts_file"]:
            ssh += ["-o", f"UserKnownHostsFile={params['repository_known_hosts_file']}"]
        own = {
            "HOME": str(self._work / "home"),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "false",
            "SSH_ASKPASS": "false",
            "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
            "GIT_SSH_COMMAND": shlex.join(ssh),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for number, (key, value) in enumerate(settings.items()):
            own |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return {name: os.environ[name] for name in _INHERITED if name in os.environ} | own
