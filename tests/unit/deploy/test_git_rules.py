"""Addresses, branches and commits, and what git says when it does not work."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.git import Place, Refusal, check_branch, check_commit

ROOT = "3f786850e387550fdab836ed7e6dc881de23001b"


@pytest.mark.parametrize(
    "url",
    ["https://github.com/a/b.git", "git@github.com:a/b.git", "ssh://git@host:22/a/b", "/srv/git/web.git",
     "http://127.0.0.1:8080/a"],
)  # fmt: skip
def test_addresses_of_repositories(url):
    assert Place.named(url, ROOT).url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no address"),
        ("relative/path", "no address"),
        ("ext::sh -c evil", "no address"),
        ("--upload-pack=evil", "no address"),
        ("-oProxyCommand=evil:x", "no address"),
        ("git@-oProxyCommand=evil:x", "no address"),
        ("file:///srv/git", "no address"),
        ("https://github.com/a/b?x=1", "no address"),
        ("http://example.test/a", "unencrypted"),
        ("https://token@github.com/a/b", "holds a user or a password"),
        ("ssh://git:word@host/a", "holds a user or a password"),
    ],
)
def test_what_is_no_address_is_refused_with_the_option(url, says):
    with pytest.raises(RunbookError, match=says) as refused:
        Place.named(url, "")
    assert refused.value.message.startswith("repository:")


def test_a_repository_is_known_by_its_first_commit():
    place = Place.named("/srv/web.git", ROOT)
    place.require(ROOT)
    with pytest.raises(RunbookError, match=f"begins with commit {'0' * 40}, and the inventory means"):
        place.require("0" * 40)
    with pytest.raises(RunbookError, match=f"pin it: app_repository_root: {ROOT}"):
        Place.named("/srv/web.git", "").require(ROOT)
    with pytest.raises(RunbookError, match="repository_root: 'main' is not the id"):
        Place.named("/srv/web.git", "main")


@pytest.mark.parametrize("name", ["main", "runbook/updates-2026-11", "release/1.2", "a_b+c"])
def test_names_of_branches(name):
    assert check_branch("branch", name) == name


@pytest.mark.parametrize(
    "name", ["", "-x", "a..b", "a//b", "a/", "a.lock", "a b", "refs/heads/main", "a~1", "x:y", "."]
)
def test_what_is_no_branch_is_refused(name):
    with pytest.raises(RunbookError, match="branch: "):
        check_branch("branch", name)


def test_a_commit_is_named_in_full():
    assert check_commit("commit", ROOT) == ROOT
    for short in (ROOT[:12], "HEAD", f"{ROOT}^", ROOT.upper()):
        with pytest.raises(RunbookError, match="full id"):
            check_commit("commit", short)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("! [rejected] a -> b (stale info)", "git_moved"),
        ("! [rejected] a -> b (fetch first)", "git_moved"),
        ("remote: error: GH006: Protected branch update failed for refs/heads/main.", "git_protected"),
        ("! [remote rejected] main -> main (protected branch hook declined)", "git_protected"),
        ("remote: GitLab: You are not allowed to push code to protected branches", "git_protected"),
        ("! [remote rejected] main -> main (pre-receive hook declined)", "git_declined"),
        ("remote: Repository not found.\nfatal: repository 'https://x/y/' not found", "git_absent"),
        ("fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote", "git_absent"),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "git_denied"),
        ("git@x: Permission denied (publickey).", "git_denied"),
        ("Host key verification failed.", "git_denied"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "git_denied"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 503", "git_unreachable"),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", "git_unreachable"),
        ("ssh: connect to host x port 22: Connection refused", "git_unreachable"),
        ("fatal: unable to access 'https://x/': server certificate verification failed.", "git_tls"),
        (
            "warning: Could not find remote branch x\nfatal: Remote branch x not found in upstream origin",
            "git_no_branch",
        ),
        ("fatal: couldn't find remote ref refs/heads/x", "git_no_branch"),
        ("error: something new", "git_failed"),
    ],
)
def test_the_cause_of_a_refusal(said, code):
    assert Refusal.of(said).code == code


def test_a_branch_that_is_not_named_is_told_as_such():
    with pytest.raises(RunbookError, match=r"^branch: it is empty; name the branch"):
        check_branch("branch", "")
