"""The driver of git on real repositories: commits, merges, reverts, and pushes that a server refuses or forgets."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import child_process
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.deploy.git import Repository
from ansible.module_utils.runbook.errors import RunbookError
from conftest import a_run, approve, as_environ, run_module
from git_remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote.new(tmp_path, {"a.txt": "one\n", "b.txt": "one\n"})


def opened(remote: Remote, **options: Any) -> Repository:
    defaults = {name: spec.get("default") for name, spec in git.argument_spec().items()}
    return Repository(defaults | remote.options(**options), read_only=False)


def test_files_are_committed_and_pushed_and_a_second_time_nothing_is(remote: Remote):
    main = remote.head("main")
    with opened(remote) as repository:
        assert repository.fetch("main") == main
        made = repository.commit(main, {"a.txt": b"two\n", "new/c.txt": b"c\n"}, "Update a")
        assert repository.push("runbook/x", made, "")
        assert not repository.push("runbook/x", made, made)
        assert repository.commit(made, {"a.txt": b"two\n"}, "Again") == made
        assert repository.heads("main", "runbook/x", "absent") == {"main": main, "runbook/x": made}
        assert (repository.read(made, "new/c.txt"), repository.read(made, "absent")) == (b"c\n", None)
    assert (remote.show("runbook/x", "a.txt"), remote.show("runbook/x", "b.txt")) == ("two\n", "one\n")
    assert remote("log", "-1", "--format=%an %ae %s", "runbook/x") == "Runbook ops@example.test Update a"


def test_nothing_of_the_clone_is_left(remote: Remote):
    with opened(remote) as repository:
        repository.fetch("main")
        folder = repository._work
        assert folder.exists()
    assert not folder.exists()


def test_the_files_of_a_commit_without_its_repository(remote: Remote, tmp_path: Path):
    with opened(remote) as repository:
        repository.export(repository.fetch("main"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt"]


def test_a_commit_and_a_merge_are_reverted(remote: Remote):
    bad = remote.push("main", {"a.txt": "bad\n"})
    remote.push("feature", {"b.txt": "feature\n"})
    merged = remote.merge("main", "feature")
    with opened(remote) as repository:
        main = repository.fetch("main")
        once = repository.revert(bad, main)
        twice = repository.revert(merged, once)
        assert (repository.read(twice, "a.txt"), repository.read(twice, "b.txt")) == (b"one\n", b"one\n")
        assert repository.parents(twice) == [once]
        assert repository.revert(bad, twice) == twice, "it is taken back already"


def test_a_revert_that_later_commits_stand_against_names_the_files(remote: Remote):
    bad = remote.push("main", {"a.txt": "bad\n"})
    remote.push("main", {"a.txt": "later\n"})
    with opened(remote) as repository:
        main = repository.fetch("main")
        with pytest.raises(RunbookError, match=r"same lines of a\.txt") as refused:
            repository.revert(bad, main)
        assert (refused.value.code, refused.value.context["conflicts"]) == ("git_conflict", ["a.txt"])
        with pytest.raises(RunbookError, match="is on no branch that was fetched"):
            repository.revert("0" * 40, main)
        # The clone is as good as before.
        assert repository.read(repository.commit(main, {"a.txt": b"x"}, "x"), "a.txt") == b"x"


def test_a_commit_of_another_branch_is_not_reverted(remote: Remote):
    other = remote.push("feature", {"b.txt": "feature\n"})
    with opened(remote) as repository:
        main = repository.fetch("main")
        repository.fetch("feature")
        with pytest.raises(RunbookError) as refused:
            repository.revert(other, main)
        assert refused.value.code == "git_not_there"


def test_branches_are_merged_and_conflicts_named(remote: Remote):
    remote.push("feature", {"b.txt": "feature\n"})
    main = remote.push("main", {"a.txt": "main\n"})
    with opened(remote) as repository:
        repository.fetch("main")
        feature = repository.fetch("feature")
        made = repository.merge(feature, main, "Merge updates")
        assert repository.parents(made) == [main, feature]
        assert repository.merge(feature, made, "Again") == made
        against = repository.commit(main, {"b.txt": b"main\n"}, "x")
        with pytest.raises(RunbookError) as refused:
            repository.merge(feature, against, "Merge updates")
        assert refused.value.context["conflicts"] == ["b.txt"]


def test_a_branch_of_somebody_else_is_only_added_to(remote: Remote):
    with opened(remote) as repository:
        main = repository.fetch("main")
        made = repository.commit(main, {"a.txt": b"two\n"}, "x")
        later = remote.push("main", {"b.txt": "later\n"})
        with pytest.raises(RunbookError) as moved:
            repository.push("main", made, main)
        assert moved.value.code == "git_moved"
        repository.fetch("main")
        with pytest.raises(RunbookError, match="would lose commits"):
            repository.push("main", made, later)
        assert remote.head("main") == later
        # One of ours may be rewritten, if nobody else pushed to it.
        repository.push("runbook/x", later, "")
        assert repository.push("runbook/x", made, later)
        with pytest.raises(RunbookError) as moved:
            repository.push("runbook/x", main, later)
        assert moved.value.code == "git_moved"


@pytest.mark.parametrize(
    ("hook", "script", "code"),
    [
        ("pre-receive", "echo 'GH006: Protected branch update failed for refs/heads/main.'; exit 1", "git_protected"),
        ("update", "exit 1", "git_declined"),
    ],
)
def test_a_push_that_the_server_refuses(remote: Remote, hook: str, script: str, code: str):
    remote.hook(hook, script)
    with opened(remote) as repository:
        main = repository.fetch("main")
        made = repository.commit(main, {"a.txt": b"two\n"}, "x")
        with pytest.raises(RunbookError) as refused:
            repository.push("main", made, main)
    assert (refused.value.code, remote.head("main")) == (code, main)


def test_a_push_whose_answer_is_lost_is_found(remote: Remote):
    # The server took it, and its process is gone before it says so.
    remote.hook("post-receive", "kill -9 $PPID")
    with opened(remote) as repository:
        main = repository.fetch("main")
        made = repository.commit(main, {"a.txt": b"two\n"}, "x")
        assert repository.push("main", made, main)
    assert remote.head("main") == made


def test_git_that_does_not_end_is_ended(remote: Remote):
    remote.hook("pre-receive", "sleep 600")
    with opened(remote) as repository:
        main = repository.fetch("main")
        made = repository.commit(main, {"a.txt": b"two\n"}, "x")
        repository._timeout_s = 1
        with pytest.raises(RunbookError, match="did not end within 1 s") as ended:
            repository.push("main", made, main)
    assert ended.value.status == "unknown"


def test_neither_hooks_nor_settings_of_the_clone_are_followed(remote: Remote, tmp_path: Path, monkeypatch):
    (tmp_path / "gitconfig").write_text(f"[core]\n\tfsmonitor = touch {tmp_path}/ran\n[user]\n\temail = x@y.z\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    opens = opened(remote)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    with opens as repository:
        main = repository.fetch("main")
        hooks = repository._clone / "hooks"
        for name in ("pre-commit", "post-checkout", "pre-push", "post-commit"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
            (hooks / name).chmod(0o755)
        bad = repository.commit(main, {"a.txt": b"two\n"}, "x")
        repository.push("runbook/x", repository.revert(bad, bad), "")
    assert not (tmp_path / "ran").exists()
    monkeypatch.undo()
    assert remote.head("runbook/x")


def test_what_is_no_regular_file_is_not_written_through(remote: Remote):
    (remote.work / "link").symlink_to("/etc/passwd")
    main = remote.push("main", {})
    with opened(remote) as repository:
        repository.fetch("main")
        for act in (lambda: repository.read(main, "link"), lambda: repository.commit(main, {"link": b"x"}, "x")):
            with pytest.raises(RunbookError, match="link is no regular file"):
                act()


def test_a_commit_needs_an_address(remote: Remote):
    with opened(remote, committer_email="") as repository:
        main = repository.fetch("main")
        with pytest.raises(RunbookError, match="committer_email: "):
            repository.commit(main, {"a.txt": b"two\n"}, "x")


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(remote: Remote) -> Iterator[tuple[str, list[str]]]:
    """The remote as git's own HTTP server shows it, to who has the token; its address, and what was sent."""
    subprocess.run(["git", "-C", str(remote.path), "config", "http.receivepack", "true"], check=True)
    login = f"Basic {base64.b64encode(b'x-access-token:s3cret-t0ken').decode()}"
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization', '')}")
            if self.headers.get("Authorization") != login:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
            cgi = {
                "GIT_PROJECT_ROOT": str(remote.path.parent), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "x",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, env=os.environ | cgi, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200").split()[0]))
            for name, value in lines.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815 - the names are http.server's

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/remote.git", seen
    server.shutdown()
    server.server_close()


def test_the_token_goes_to_the_server_and_nowhere_else(remote: Remote, served, monkeypatch):
    url, seen = served
    had: dict[str, bool] = {}

    def run(words: list[str], **how: Any) -> child_process.Finished:
        had[words[1]] = any("Authorization" in value for value in how["env"].values())
        return real(words, **how)

    real = child_process.run
    monkeypatch.setattr(child_process, "run", run)
    with opened(remote, repository=url, repository_token="s3cret-t0ken") as repository:
        main = repository.fetch("main")
        made = repository.commit(main, {"a.txt": b"two\n"}, "x")
        assert repository.push("main", made, main)
        clone = Path(repository._clone)
        assert "s3cret" not in (clone / "config").read_text()
    # Only who asks the server has it in its environment.
    assert {word for word, it_had in had.items() if it_had} == {"clone", "push"}
    assert {"commit-tree", "rev-list"} <= had.keys()
    assert remote.head("main") == made
    assert "s3cret" not in "".join(line.split(" ")[0] for line in seen)
    with (
        opened(remote, repository=url, repository_token="wr0ng-t0ken") as repository,
        pytest.raises(RunbookError) as refused,
    ):
        repository.fetch("main")
    assert (refused.value.code, "t0ken" in refused.value.message) == ("git_denied", False)


# --- preflight --------------------------------------------------------------------------------------------------------


def preflight(remote: Remote, **options: Any) -> Any:
    run = a_run()
    approve(run, "staging")
    return run_module("repository_preflight", remote.options(branch="main") | options, **as_environ(run))


def test_the_repository_proves_itself(remote: Remote, tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    main = remote.push("main", {"a.txt": "two\n"})
    proven = preflight(remote, state_directory=str(state)).result
    assert not proven.get("failed"), proven
    assert (proven["commit"], proven["lease"]["decision"]) == (main, "acquire")
    assert proven["target"] == {
        "kind": "repository", "place": str(remote.path), "name": remote.root, "environment": "staging",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says", "status"),
    [
        ({"repository_root": ""}, "pin it: app_repository_root: ", "breach"),
        ({"repository_root": "0" * 40}, "is another repository", "breach"),
        ({"branch": "absent"}, "the branch is not there", "breach"),
        ({"repository": "/nowhere/x.git"}, "there is no such repository", "breach"),
        ({"repository": "http://127.0.0.1:1/x.git"}, "the server does not answer", "unknown"),
        ({"repository_timeout_s": 0}, "repository_timeout_s: 0 is out of bounds", "breach"),
    ],
)
def test_another_repository_is_refused(remote: Remote, options: dict[str, Any], says: str, status: str):
    refused = preflight(remote, **options)
    assert refused.failed
    assert says in refused.result["msg"], refused.result["msg"]
    assert refused.result["status"] == status
    assert "target" not in json.dumps(refused.result)
