"""After a change: pages, versions and smoke queries; and a soak on a real Prometheus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Prometheus
from changes import item, open_change, options
from conftest import Outcome, free_port, run_module
from fakes.http import Asked, FakeService, Fault, Reply
from servers import GuardedPrometheus, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.change.changes import Changes


class Site(FakeService):
    """A page with a version."""

    service: ClassVar[str] = "site"

    def answer(self, asked: Asked) -> Reply:
        del asked
        return Reply(200, {"said": "Sign in", "version": "7"}, {"X-Version": "7"})


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


def page(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "sign-in", "url": url} | more


def probe(folder: Path, *pages: dict[str, Any], check: bool = False, **more: Any) -> Outcome:
    common = options(folder, pages=list(pages), deadline_s=2, timeout_s=5)
    return run_module("change_probe", common | more, check=check)


def test_an_application_that_works_is_seen_to(tmp_path, changes, site, database):
    database.run("CREATE TABLE public.notes (id int)", "INSERT INTO public.notes VALUES (1), (2)")
    # It starts still.
    site.faults = [Fault("GET", "status", 503)]
    seen = probe(
        tmp_path, page(site.url, text="Sign in", version="7", version_field="version"),
        smoke_queries=[{"name": "notes", "query": "SELECT count(*) FROM public.notes", "expect": "2"}],
        deadline_s=30, **database.login,
    )  # fmt: skip
    assert (seen.result["status"], seen.result["changed"]) == ("ok", False), seen.result
    assert [(each["name"], each["subject"]) for each in seen.result["checks"]] == [
        ("page", "sign-in"),
        ("smoke", "notes"),
    ]
    assert item(changes)[::2] == ("ok", "2 checked")


def test_what_is_wrong_is_named(tmp_path, changes, site, database):
    database.run("CREATE TABLE public.notes (id int)")
    queries = [
        {"name": "notes", "query": "SELECT count(*) FROM public.notes"},
        {"name": "writes", "query": "INSERT INTO public.notes VALUES (1) RETURNING id"},
    ]
    wrong = probe(
        tmp_path, page(site.url, version="8", version_header="X-Version"), smoke_queries=queries, **database.login
    )  # fmt: skip
    assert (wrong.failed, wrong.result["status"], item(changes)[0]) == (True, "breach", "breach")
    found = {each["subject"]: (each["status"], each["msg"]) for each in wrong.result["checks"]}
    assert found["sign-in"] == ("breach", f"sign-in: {site.url} serves version '7' instead of '8'.")
    assert found["notes"] == ("breach", "notes: gave nothing, zero or false.")
    assert found["writes"][0] == "breach"
    assert database.one("SELECT count(*) FROM public.notes") == 0
    goes_on = probe(tmp_path, page(site.url, status=404), blocks=False)
    assert (goes_on.failed, goes_on.result["status"], item(changes)[0]) == (False, "unknown", "breach")


def test_who_does_not_answer_is_unknown(tmp_path, changes):
    nobody = probe(tmp_path, page(f"http://127.0.0.1:{free_port()}/"))
    assert (nobody.failed, nobody.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
    assert "did not answer" in nobody.result["checks"][0]["msg"]


def test_check_mode_looks_and_answers_no_item(tmp_path, site):
    (tmp_path / "state").mkdir(mode=0o700)
    assert probe(tmp_path, page(site.url), check=True).result["status"] == "ok"
    assert not list((tmp_path / "state").rglob("*.json"))


# --- the soak ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real one that watches itself."""
    with running(Prometheus(tmp_path_factory.mktemp("prometheus"))) as started:
        yield started.url


def soak(folder: Path, *, check: bool = False, **more: Any) -> Outcome:
    common = options(folder, duration_s=2, interval_s=1, min_samples=1, timeout_s=10)
    return run_module("change_soak", common | more, check=check)


def metric(query: str, name: str = "metric", **bounds: float) -> dict[str, Any]:
    return {"name": name, "query": query, **(bounds or {"max": 1})}


AT_PROMETHEUS = {"metrics": [metric("up")], "prometheus_url": "https://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("query", "status"),
    [("vector(1)", "ok"), ("scalar(vector(1))", "ok"), ("vector(2)", "breach"), ("absent_metric", "unknown"),
     ("vector(0) / 0", "unknown")],
)  # fmt: skip
def test_a_real_prometheus_is_watched(tmp_path, changes, prometheus, query, status):
    watched = soak(tmp_path, prometheus_url=prometheus, metrics=[metric(query)])
    assert (watched.result["status"], watched.failed) == (status, status == "breach"), watched.result
    assert item(changes)[0] == status
    if status == "breach":
        assert "metric: 1 of 1 sample failed; its value was 2." in watched.result["msg"]
        assert "go back by the change's rollback plan" in watched.result["msg"]
        assert watched.result["samples"] == [{"name": "metric", "good": 0, "failed": 1, "unknown": 0}]


def test_a_query_that_prometheus_cannot_read_is_refused(tmp_path, changes, prometheus):
    refused = soak(tmp_path, prometheus_url=prometheus, metrics=[metric("sum(")])
    assert (refused.failed, item(changes)[0]) == (True, "breach")
    assert "metrics: metric: Prometheus cannot read its query" in refused.result["msg"]


def test_a_page_that_breaks_ends_it_early(tmp_path, changes, site):
    site.faults = [Fault("GET", "reset", times=9)]
    broken = soak(tmp_path, pages=[page(site.url)], duration_s=1800, min_samples=2)
    assert (broken.failed, broken.result["status"]) == (True, "breach")
    assert broken.result["watched_s"] < 1800
    goes_on = soak(tmp_path, pages=[page(site.url)], duration_s=1800, min_samples=2, blocks=False)
    assert (goes_on.failed, goes_on.result["status"], item(changes)[0]) == (False, "unknown", "breach")


@pytest.mark.parametrize("left_s", [0, 1])
def test_a_soak_without_enough_time_is_unknown(tmp_path, changes, site, left_s):
    cut = soak(tmp_path, pages=[page(site.url)], duration_s=1800, deadline_s=left_s)
    assert (cut.failed, cut.result["status"]) == (False, "unknown")
    assert "of 1800 s" in cut.result["msg"]
    assert "There was no time for more" in item(changes)[1]


def test_a_prometheus_that_is_down_says_nothing(tmp_path, changes):
    nobody = soak(
        tmp_path, prometheus_url=f"http://127.0.0.1:{free_port()}", metrics=[metric("up")], duration_s=1
    )  # fmt: skip
    assert (nobody.failed, nobody.result["status"], item(changes)[0]) == (False, "unknown", "unknown")


def test_check_mode_looks_once(tmp_path, site):
    (tmp_path / "state").mkdir(mode=0o700)
    planned = soak(tmp_path, check=True, pages=[page(site.url)], duration_s=1800)
    assert planned.result["msg"] == "Would watch for 1800 s. Just now sign-in: good."
    assert len(site.requests) == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedPrometheus]:
    with running(GuardedPrometheus.made(tmp_path_factory.mktemp("guarded") / "prometheus")) as started:
        yield started


def test_a_prometheus_with_a_password_and_an_own_authority_is_watched(tmp_path, changes, guarded):
    given = {
        "prometheus_url": f"{guarded.url}/", "metrics": [metric("vector(1)")], "ca_cert": guarded.ca_cert,
        "prometheus_user": guarded.user, "prometheus_password": guarded.password,
    }  # fmt: skip
    watched = soak(tmp_path, **given)
    assert (watched.failed, watched.result["status"]) == (False, "ok"), watched.result
    denied = soak(tmp_path, **given | {"prometheus_password": "c4n4ry-0000"})
    assert (denied.failed, denied.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
    said = "Prometheus answered with 401; check prometheus_token, or prometheus_user and prometheus_password"
    assert said in denied.result["msg"]
    assert "c4n4ry" not in json.dumps(denied.result) + denied.stderr + json.dumps(changes.current().body())
    strange = soak(tmp_path, check=True, **given | {"ca_cert": None})
    assert "verify failed" in strange.result["msg"]
    assert "Check prometheus_url, ca_cert and the clock of this machine" in strange.result["msg"]


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("change_probe", {"pages": []}, "pages, smoke_queries: both are empty"),
        (
            "change_probe",
            {"smoke_queries": [{"name": "a", "query": "SELECT 1"}]},
            "are empty; name the database in full",
        ),
        ("change_soak", {}, "metrics, pages: give at least one"),
        ("change_soak", {"metrics": [metric("up")]}, "prometheus_url, metrics: one is set without the other"),
        ("change_soak", {"metrics": [metric("up"), metric("up")]}, "each with a name of its own"),
        (
            "change_soak",
            {"metrics": [metric("up")], "prometheus_url": "x:9090"},
            "prometheus_url: 'x:9090' is no address",
        ),
        ("change_soak", {"metrics": [metric("up")], "duration_s": 10, "interval_s": 5}, "min_samples: in 10 s"),
        (
            "change_soak",
            AT_PROMETHEUS | {"prometheus_user": "a", "prometheus_password": "b", "prometheus_token": "c"},
            "prometheus_user: prometheus_token is given too; give the one that the server asks for.",
        ),
        ("change_soak", AT_PROMETHEUS | {"prometheus_user": "a"}, "prometheus_password: it is empty, and"),
        ("change_soak", AT_PROMETHEUS | {"ca_cert": "/none.pem"}, "ca_cert: /none.pem cannot be read"),
        ("change_soak", {"metrics": [metric("up")], "deadline_s": -1}, "deadline_s: -1 is out of bounds"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path, name, given, says):
    refused = run_module(name, options(tmp_path) | given)
    assert refused.failed
    assert says in refused.result["msg"]
