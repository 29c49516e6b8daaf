"""What is asked of a server, and what is not: another host, a page to log in, and what nobody can tell."""

from __future__ import annotations

import gzip
import json
import runpy
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.child_process import Finished
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.http.api_client import Answer
from ansible.module_utils.runbook.drivers.web import browser, cache_sources, site
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.web import cdn
from ansible.module_utils.runbook.rules.web.lighthouse import is_another
from conftest import ROOT

bundle_info = SimpleNamespace(**runpy.run_path(str(ROOT / "library/bundle_info.py")))
asset_info = SimpleNamespace(**runpy.run_path(str(ROOT / "library/asset_info.py")))
HOME = "https://app.example.com/"
TEXT = {"content-type": "text/css"}


def served(monkeypatch, answers: dict[str, Answer | Exception]) -> list[str]:
    """Answers by address; the list of what was asked."""
    asked: list[str] = []

    class Client:
        def __init__(self, **given: Any) -> None:
            self.url = given["base_url"]

        def look(self) -> Answer:
            asked.append(self.url)
            answer = answers.get(self.url, Answer(404, {}, b""))
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(site, "ApiClient", Client)
    return asked


def moved(to: str) -> Answer:
    return Answer(307, {"location": to}, b"")


def of_app() -> site.Site:
    return site.Site(HOME, Clock(60), is_another, timeout_s=5)


@pytest.mark.parametrize("to", ["http://169.254.169.254/latest/meta-data?k=abc123", "/login?next=abc123"])
def test_a_redirect_to_another_host_or_a_login_is_not_followed_and_its_query_not_told(monkeypatch, to):
    asked = served(monkeypatch, {HOME: moved(to)})
    with pytest.raises(RunbookError, match="a page to log in or of another host") as error:
        of_app().start_page()
    assert (error.value.status, asked) == ("unknown", [HOME])
    assert "abc123" not in error.value.message


def test_a_query_of_a_circle_is_not_told(monkeypatch):
    served(monkeypatch, {HOME: moved("/a?k=abc123"), f"{HOME}a?k=abc123": moved("/a?k=abc123")})
    with pytest.raises(UnreachableError) as error:
        of_app().start_page()
    assert "abc123" not in error.value.message


@pytest.mark.parametrize(("status", "is_unknown"), [(404, False), (403, False), (500, True), (429, True), (401, True)])
def test_a_file_that_nobody_knows_of_does_not_make_the_build_smaller(monkeypatch, status, is_unknown):
    served(monkeypatch, {HOME: Answer(200, {}, b""), f"{HOME}a.js": Answer(status, {}, b"")})
    if not is_unknown:
        assert of_app().read("a.js") is None
        return
    with pytest.raises(RunbookError) as error:
        of_app().read("a.js")
    assert error.value.status == "unknown"


def test_of_a_log_only_files_beside_the_pages_own_are_asked_for(monkeypatch):
    page = Answer(200, {}, b'<link rel=stylesheet href="/assets/a.css"><img src="//evil.example.net/x.png">')
    served(monkeypatch, {HOME: page, f"{HOME}assets/a.css": Answer(200, TEXT, b"")})
    logged = {"/assets/b.png": 5, "/users/jane@example.com": 9, "/files/jane-doe.pdf": 9, "/jane.jpg": 9}
    found = asset_info.of_pages(of_app(), [HOME], logged)
    assert list(found) == [f"{HOME}assets/a.css", f"{HOME}assets/b.png"]


def test_one_file_that_cannot_be_read_leaves_the_others_judged_and_is_unknown(monkeypatch):
    answers: dict[str, Answer | Exception] = {
        f"{HOME}film.css": UnreachableError("film.css did not answer: its answer does not end."),
        f"{HOME}down.css": Answer(503, {}, b""),
        f"{HOME}a.css": Answer(200, TEXT, b"a{}" * 500),
    }
    served(monkeypatch, answers)
    unread: list[Any] = []
    urls = [f"{HOME}film.css", f"{HOME}down.css", f"{HOME}a.css"]
    gone: list[Any] = []
    seen = list(asset_info.measured(of_app(), dict.fromkeys(urls, HOME), {}, lambda _: None, (unread, gone)))
    assert [each.path for each in seen] == ["/a.css"]
    assert [each.kind for each in unread] == ["asset:/film.css", "asset:/down.css"]
    assert gone == []


def test_a_file_that_a_page_names_and_that_is_not_there_is_told(monkeypatch):
    answers: dict[str, Answer | Exception] = {
        HOME: Answer(200, {}, b"<script src=/a.js></script><script src=/b.js></script><img src=/c.png>"),
        f"{HOME}a.js": Answer(404, {}, b""),
        # An application of a single page.
        f"{HOME}b.js": Answer(200, {"content-type": "text/html"}, b"<html>"),
        f"{HOME}c.png": Answer(404, {}, b""),
        # Of an earlier build, which only the log knows.
        f"{HOME}old.js": Answer(404, {}, b""),
    }
    served(monkeypatch, answers)
    made = of_app()
    named = asset_info.of_pages(made, [HOME], {})
    unread: list[Any] = []
    gone: list[Any] = []
    assert not list(asset_info.measured(made, named | {f"{HOME}old.js": ""}, {}, lambda _: None, (unread, gone)))
    assert [(each.id, each.severity) for each in gone] == [
        ("asset_missing:a.js", "critical"), ("asset_missing:b.js", "critical"), ("asset_missing:c.png", "warning"),
    ]  # fmt: skip
    assert "/b.js: https://app.example.com/ names it, and the server answers with a page" in gone[1].msg
    assert unread == []


def test_a_login_in_the_place_of_a_manifest_hides_no_bundle(monkeypatch):
    """A site whose pages have a base path, and that asks for a login at any other address."""
    page, script = Answer(200, {}, b"<script src=/a.js></script>"), Answer(200, {"content-type": "text/js"}, b"1")
    answers: dict[str, Answer | Exception] = {HOME: page, f"{HOME}a.js": script}
    served(monkeypatch, answers | {f"{HOME}.vite/manifest.json": moved("/login?next=x")})
    assert [each.path for each in bundle_info.chunks_of(of_app())] == ["a.js"]
    served(monkeypatch, answers | {f"{HOME}.vite/manifest.json": Answer(503, {}, b"")})
    with pytest.raises(RunbookError, match="answers with 503"):
        bundle_info.chunks_of(of_app())


COMBINED = '1.1.1.1 - - [x] "GET {} HTTP/1.1" 200 5 "-" "-"'


def test_a_log_with_addresses_that_are_none_is_read_to_its_end(tmp_path):
    log = tmp_path / "access.log"
    log.write_text("\n".join(COMBINED.format(path) for path in ("/a.js?x=1", "//[", "http://[::1", "/b.js")))
    told = cache_sources.of_log([str(log)], cdn.line_pattern("log_pattern", cdn.REQUEST, frozenset({"path"})), print)
    assert [path for path, _, _ in told] == ["/a.js", "/b.js"]


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: data[:30] + b"\xff" * 40 + data[70:]])
def test_a_compressed_log_that_is_damaged_is_unknown(tmp_path, damage):
    log = tmp_path / "access.log.2.gz"
    lines = "\n".join(COMBINED.format(f"/{number}.js") for number in range(500))
    log.write_bytes(damage(gzip.compress(lines.encode())))
    with pytest.raises(RunbookError, match=r"access.log.2.gz cannot be read: \w+") as raised:
        list(cache_sources.of_log([str(log)], cdn.line_pattern("log_pattern", cdn.REQUEST, frozenset({"path"})), print))
    assert raised.value.status == "unknown"


def test_what_programs_say_last_is_told_without_queries():
    said = Finished(1, b"", json.dumps("net at https://a.example.com/x?code=abc123").encode())
    assert "abc123" not in browser._last_words(said)


def test_chromium_gets_the_proxy_and_no_password_of_one(monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("http_proxy", "http://user:abc123@proxy.example.com:3128")
    monkeypatch.setenv("PGPASSWORD", "abc123")
    made = browser._environment(tmp_path)
    assert made["https_proxy"] == "http://proxy.example.com:3128"
    assert "abc123" not in json.dumps(made)
