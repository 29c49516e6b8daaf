"""The modules that look at an application's pages, against a real nginx with a cache, and a real Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

import pytest
import servers
import web
from ansible.module_utils.runbook.drivers.sandbox.npm_registry import PNPM, fetched
from ansible.module_utils.runbook.drivers.sandbox.website import Website
from ansible.module_utils.runbook.errors import RunbookError
from conftest import ROOT, run_module
from fakes import website
from fakes.vercel import PROJECT, TEAM, TOKEN, FakeVercel
from git_remotes import Remote
from web_reports import URL, report

from playbooks import Project

CLASSES = [
    {"name": "assets", "pattern": "^/assets/", "min_hit_rate": 0.5},
    {"name": "pages", "pattern": "^/(?!api/)", "min_hit_rate": 0.2},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    wanted = Website(tmp_path_factory.mktemp("website"))
    wanted.build(ROOT / "tests")
    with servers.running(wanted) as started:
        yield started


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return {"state_directory": str(folder)}


def lighthouse(folder, *answers: Any, **more: Any):
    """Look at one page through stand-ins."""
    made = web.options(folder / "tools", *answers, **{key: more.pop(key) for key in ("lives_s",) if key in more})
    return run_module("lighthouse_info", {"name": "app", "pages": [{"name": "home", "url": URL}], **made, **more})


# Lighthouse -----------------------------------------------------------------------------------------------------------


def test_a_real_page_is_measured_and_told_what_slows_it_down(site):
    tools = web.real_tools()
    done = run_module(
        "lighthouse_info",
        {
            "name": "app", "tools_path": str(tools), "runs": 1, "preset": "desktop",
            "pages": [{"name": "home", "url": f"{site.url}/", "budgets": {"total_bytes": 100_000}}],
            "budgets": {"score": 0, "total_blocking_time_ms": 100_000, "speed_index_ms": 100_000,
                        "first_contentful_paint_ms": 100_000, "largest_contentful_paint_ms": 100_000},
        },
    )  # fmt: skip
    assert [each["id"] for each in done.result["findings"]] == ["page_slow:home"], done.result
    assert "/assets/portrait-" in done.result["findings"][0]["msg"]
    page = done.result["pages"][0]
    assert 200_000 < page["figures"]["total_bytes"] < 300_000
    assert page["benchmark"] > 0


@pytest.mark.long
def test_the_middle_of_three_real_runs_and_pages_that_are_none(site):
    pages = [{"name": name, "url": f"{site.url}/{name}"} for name in ("notes", "broken", "private")]
    done = run_module("lighthouse_info", {"name": "app", "tools_path": str(web.real_tools()), "pages": pages})
    assert done.result["pages"][0]["good_runs"] == 3
    assert [each["id"] for each in done.result["findings"] if each["kind"] == "page_broken"] == ["page_broken:broken"]
    assert "answers with 500" in done.result["findings"][0]["msg"]
    assert [each["kind"] for each in done.result["unknown"]] == ["page:private"]


def test_a_good_page_is_green_and_the_run_in_the_middle_counts(tmp_path):
    done = lighthouse(tmp_path, report(lcp=1500, tti=2000), report(lcp=9000, tti=9000), report(lcp=1600, tti=2100))
    assert (done.failed, done.result["status"]) == (False, "ok")
    assert done.result["pages"][0]["figures"]["largest_contentful_paint_ms"] == 1600
    assert done.result["pages"][0]["spread"]["largest_contentful_paint_ms"] == [1500, 9000]


def test_a_page_that_answers_500_is_looked_at_once_and_is_red(tmp_path):
    done = lighthouse(tmp_path, report(score=1.0, status=500))
    assert (done.failed, done.result["status"], done.result["pages"][0]["runs"]) == (True, "breach", 1)


def test_a_lighthouse_that_fails_is_unknown(tmp_path):
    done = lighthouse(tmp_path, None, runs=1)
    assert (done.failed, done.result["status"]) == (True, "unknown")
    assert "Runtime error encountered: it crashed" in done.result["unknown"][0]["msg"]


def test_a_chromium_that_dies_is_unknown_and_says_so(tmp_path):
    done = lighthouse(tmp_path, None, runs=1, lives_s="0")
    assert done.result["status"] == "unknown"
    assert "Chromium ended with exit code 0 while it was needed" in done.result["unknown"][0]["msg"]


def test_programs_that_are_not_there_are_named_with_the_fix(tmp_path):
    options = {"name": "app", "pages": [{"name": "home", "url": URL}]}
    done = run_module("lighthouse_info", options | {"tools_path": str(tmp_path)})
    assert done.result["status"] == "unknown"
    assert f"run python -m tools.web_tools {tmp_path}" in done.result["msg"]
    made = web.options(tmp_path / "tools", report()) | {"chromium": "chromium-that-is-none"}
    done = run_module("lighthouse_info", options | made)
    assert "chromium: chromium-that-is-none is not there; install it" in done.result["msg"]


def test_chromium_is_told_of_the_authorities_of_a_site(tmp_path):
    """By certutil, in the home that each Chromium gets."""
    told = tmp_path / "told"
    program = tmp_path / "bin/certutil"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nwhile [ "$1" != -i ]; do shift; done\necho "$HOME" >> "{told}"\ncat "$2" >> "{told}"\n'
    )
    program.chmod(0o755)
    bundle = tmp_path / "ca.pem"
    options = {"name": "app", "pages": [{"name": "home", "url": URL}], "runs": 1, "ca_cert": str(bundle)}
    options |= web.options(tmp_path / "tools", report())
    path = f"{program.parent}:{os.environ['PATH']}"
    bundle.write_text("no certificate")
    assert "ca.pem has no certificate" in run_module("lighthouse_info", options, PATH=path).result["msg"]
    one = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    bundle.write_text(one.format("one") + "between\n" + one.format("two"))
    assert not run_module("lighthouse_info", options, PATH=path).failed
    lines = told.read_text().splitlines()
    assert [line for line in lines if line in ("one", "two", "between")] == ["one", "two"]
    assert all("/runbook-chromium-" in line for line in lines if line.startswith("/"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pages": []}, "pages: it is empty"),
        ({"pages": [{"name": "home", "url": "app"}]}, "pages: 'app' is no address"),
        ({"pages": [{"name": "a", "url": URL}, {"name": "a", "url": URL}]}, "pages: a is there twice"),
        ({"budgets": {"lcp": 1}}, "budgets: lcp is no figure of Lighthouse's"),
        ({"runs": 0}, "runs: 0 is out of bounds"),
    ],
)
def test_bad_input_is_refused_before_anything_is_looked_at(tmp_path, wrong, said):
    options = {"name": "app", "tools_path": str(tmp_path), "pages": [{"name": "home", "url": URL}]}
    assert said in run_module("lighthouse_info", options | wrong).result["msg"]


# The last good run ----------------------------------------------------------------------------------------------------


def test_only_a_green_run_is_what_the_next_one_is_compared_with(tmp_path, store):
    folder = tmp_path / "dist"
    names = website.write(folder)
    bundle_options = {"name": "app", "folder": str(folder), **store}
    good = lighthouse(tmp_path, report(lcp=1500)).result
    bundle = run_module("bundle_info", bundle_options).result
    keep = {"name": "app", "bundle": bundle, **store}
    red = run_module("web_baseline", keep | {"pages": good | {"status": "breach"}})
    assert (red.failed, "pages: the result is breach" in red.result["msg"]) == (True, True)
    planned = run_module("web_baseline", keep | {"pages": good}, check=True)
    assert (planned.result["changed"], run_module("bundle_info", bundle_options).result["compared_with"]) == (True, "")
    assert not run_module("web_baseline", keep | {"pages": good}).failed

    (folder / names["settings.js"]).rename(folder / "assets/settings-Zz99Yy88.js")
    with (folder / "assets/settings-Zz99Yy88.js").open("a") as file:
        file.write("\n".join(f"export const more{number} = '{number**9}';" for number in range(2000)))
    grown = run_module("bundle_info", bundle_options).result
    assert [each["id"] for each in grown["findings"]] == ["bundle_grew:total", "chunk_grew:assets.settings.js"]
    slower = lighthouse(tmp_path / "later", report(lcp=2400), runs=1, **store).result
    assert [each["id"] for each in slower["findings"]] == ["page_regression:home"]
    assert slower["compared_with"] == grown["compared_with"] != ""


# Bundles --------------------------------------------------------------------------------------------------------------


def told(result):
    return {each["name"]: (each["is_initial"], each["gzip_bytes"]) for each in result["chunks"]}


def test_a_bundle_is_the_same_from_a_folder_a_manifest_and_a_server(tmp_path, site):
    names = website.write(tmp_path)
    by_html = run_module("bundle_info", {"name": "app", "folder": str(tmp_path)}).result
    website.write_manifest(tmp_path, names)
    by_manifest = run_module("bundle_info", {"name": "app", "folder": str(tmp_path)}).result
    served = run_module("bundle_info", {"name": "app", "url": f"{site.url}/"}).result
    assert told(by_html) == told(by_manifest) == told(served)
    assert {name for name, (is_initial, _) in told(served).items() if not is_initial} == {"assets/settings.js"}
    total = by_html["sums"]["total"]
    assert 0 < total["brotli_bytes"] < total["gzip_bytes"] < total["raw_bytes"]


def test_a_build_that_is_not_whole_or_none_is_refused(tmp_path):
    names = website.write(tmp_path)
    (tmp_path / names["library.js"]).unlink()
    done = run_module("bundle_info", {"name": "app", "folder": str(tmp_path)})
    assert f"{names['library.js']}: the page loads it at once, and it is not there" in done.result["msg"]
    shutil.rmtree(tmp_path / "assets")
    (tmp_path / "index.html").unlink()
    assert "has no index.html" in run_module("bundle_info", {"name": "app", "folder": str(tmp_path)}).result["msg"]
    assert "give one of them" in run_module("bundle_info", {"name": "app"}).result["msg"]


# Heaps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [8, pytest.param(40, marks=pytest.mark.long)])
def test_a_page_that_leaks_is_told_from_one_that_does_not(site, turns):
    flows = [
        {"name": name, "url": f"{site.url}/{name}", "steps": [{"click": "#open"}, {"wait_for": "section"}]}
        for name in ("sessions", "notes")
    ]
    done = run_module(
        "heap_growth_info",
        {"tools_path": str(web.real_tools()), "flows": flows, "turns": turns, "warm_up": 3, "max_growth_bytes": 16384},
    )
    assert [each["id"] for each in done.result["findings"]] == ["heap_growth:sessions"], done.result
    assert done.result["unknown"] == []
    # 5,000 numbers of eight bytes, which each session keeps.
    assert 35_000 < done.result["flows"][0]["growth_bytes"] < 60_000


def heap(folder, said):
    flows = [{"name": "notes", "url": URL, "steps": [{"click": "#open"}]}]
    return run_module("heap_growth_info", {"flows": flows, **web.options(folder, turns=said)})


def test_a_flow_that_cannot_be_gone_through_is_red_and_one_in_noise_unknown(tmp_path):
    lost = heap(tmp_path / "lost", {"error": "step 1, click #open: Waiting for selector failed"})
    assert [each["id"] for each in lost.result["findings"]] == ["flow_broken:notes"]
    wild = [1_000_000 + 400_000 * (turn * 7 % 5) for turn in range(11)]
    noisy = heap(tmp_path / "noisy", {"heap_bytes": wild, "nodes": [], "listeners": []})
    assert (noisy.result["status"], noisy.result["unknown"][0]["kind"]) == ("unknown", "heap:notes")


@pytest.mark.parametrize("step", [{}, {"click": "#a", "open": "/"}, {"back": False}, {"wait_ms": 0}])
def test_a_step_says_one_thing(tmp_path, step):
    flows = [{"name": "notes", "url": URL, "steps": [step]}]
    done = run_module("heap_growth_info", {"flows": flows, "tools_path": str(tmp_path)})
    assert "a step has one of click, wait_for, open, back: true, wait_ms" in done.result["msg"]


# Caches and assets ----------------------------------------------------------------------------------------------------


def ask(site, *paths: str, times=1):
    for _ in range(times):
        for path in paths:
            run = run_module("bundle_info", {"name": "app", "url": f"{site.url}{path}"})
            assert not run.failed, run.result


def test_hit_rates_of_a_real_cache_by_its_log(site):
    ask(site, "/", times=4)
    options = {"classes": CLASSES, "access_logs": [str(site.access_log)]}
    done = run_module("cdn_cache_info", options | {"min_requests": 5}).result
    assert (done["source"], done["status"]) == ("log", "ok")
    rates = {each["name"]: each["hit_rate"] for each in done["classes"]}
    assert 0.5 < rates["assets"] < 1
    # Too few say nothing.
    few = run_module("cdn_cache_info", options | {"min_requests": 100_000}).result
    kinds = [each["kind"] for each in few["unknown"]]
    assert (few["status"], kinds) == ("unknown", ["hit_rate:assets", "hit_rate:pages", "hit_rate"])
    strict = [CLASSES[0] | {"min_hit_rate": 1.0}]
    red = run_module("cdn_cache_info", options | {"classes": strict, "min_requests": 5})
    assert [each["id"] for each in red.result["findings"]] == ["hit_rate:assets"]


def test_headers_tell_where_there_is_no_log(site):
    options = {"classes": CLASSES[1:], "sample_urls": [f"{site.url}/notes", f"{site.url}/api/x"]}
    done = run_module("cdn_cache_info", options).result
    assert (done["source"], done["classes"][0]["requests"], done["classes"][0]["hit_rate"]) == ("headers", 1, 1.0)


def test_a_log_without_the_status_of_a_cache_is_unknown(tmp_path):
    log = tmp_path / "access.log"
    log.write_text('1.1.1.1 - - [x] "GET / HTTP/1.1" 200 5 "-" "-"\n')
    done = run_module("cdn_cache_info", {"classes": CLASSES, "access_logs": [str(log)]})
    assert (done.failed, done.result["status"], done.result["source"]) == (True, "unknown", "")
    assert "let the server log the status of its cache" in json.dumps(done.result["unknown"])


def test_vercel_tells_first_and_without_observability_plus_the_next_source_does(site):
    own = {"vercel_project_id": PROJECT, "vercel_team_id": TEAM, "vercel_access_token": TOKEN}
    options = {"classes": CLASSES[:1], "access_logs": [str(site.access_log)], "min_requests": 1, **own}
    with FakeVercel() as vercel:
        options["vercel_api_url"] = vercel.url
        without = run_module("cdn_cache_info", options).result
        vercel.requests_counted = [("/assets/a.js", "HIT", 980), ("/assets/a.js", "MISS", 20), ("/", "MISS", 999)]
        told = run_module("cdn_cache_info", options).result
    assert without["source"] == "log"
    assert "the plan has no Observability Plus" in json.dumps(without["unknown"])
    assert (told["source"], told["status"], told["classes"][0]["hit_rate"]) == ("Vercel", "ok", 0.98)
    assert TOKEN not in json.dumps(without)
    halfway = run_module("cdn_cache_info", {"classes": CLASSES, "vercel_project_id": PROJECT})
    assert "vercel_team_id, vercel_access_token: not set, and Vercel needs it" in halfway.result["msg"]


def test_large_and_uncompressed_files_are_told_with_what_was_measured(site):
    ask(site, "/", times=2)
    done = run_module("asset_info", {"pages": [f"{site.url}/"]}).result
    found = {each["id"]: each for each in done["findings"]}
    assert set(found) == {"asset_large:assets.portrait.png", "asset_uncompressed:assets.index.css"}
    picture = next(each for each in done["assets"] if each["path"].endswith(".png"))
    assert picture["best_form"] in ("WebP", "AVIF")
    assert picture["best_bytes"] < picture["served_bytes"] / 4
    assert done["saved_bytes"] > 150_000
    by_log = run_module("asset_info", {"pages": [f"{site.url}/"], "access_logs": [str(site.access_log)]}).result
    assert by_log["requests_from"] == "log"
    # The page's script, which was asked for most, and a file that only the log names.
    assert {each["requests"] for each in by_log["assets"]} != {1}
    assert any("settings-" in each["path"] for each in by_log["assets"])


# The application's own scripts ----------------------------------------------------------------------------------------


def test_the_applications_own_scripts_run_where_it_has_them(tmp_path):
    try:
        pnpm = fetched(ROOT / ".cache/npm", *PNPM)
    except RunbookError as error:
        pytest.skip(error.message)
    lock = "lockfileVersion: '9.0'\nimporters:\n  .: {}\n"
    say = "node -e \"console.log(process.env.RUNBOOK_HOST || 'no host'); process.exit({code})\""
    scripts = {"build": say.replace("{code}", "0"), "analyze:bundle": say.replace("{code}", "3")}
    manifest = json.dumps({"name": "web", "version": "1.0.0", "scripts": scripts})
    remote = Remote.new(tmp_path, {"package.json": manifest, "pnpm-lock.yaml": lock})
    options = {key: value for key, value in remote.options().items() if key != "committer_email"} | {
        "branch": "main", "pnpm": str(pnpm), "scripts": ["audit:performance", "analyze:bundle"], "before": ["build"],
    }  # fmt: skip
    done = run_module("app_script_info", options, RUNBOOK_HOST="app")
    assert (done.failed, done.result["status"]) == (True, "breach")
    assert done.result["missing_scripts"] == ["audit:performance"]
    assert (
        "The application has no audit:performance; the checks of this project stand alone there." in done.result["msg"]
    )
    assert [(each["name"], each["status"]) for each in done.result["checks"]] == [("analyze:bundle", "breach")]
    # Nothing of the run is known to a script.
    assert "no host" in done.result["output"]["build"]
    assert "analyze:bundle (breach): It failed: " in done.result["msg"]
    without = run_module("app_script_info", options | {"scripts": ["test:memory-leaks"]})
    assert (without.failed, without.result["status"]) == (False, "unknown")
    assert "no script was run. The application has no test:memory-leaks" in without.result["msg"]
    assert run_module("app_script_info", options | {"scripts": []}).result["status"] == "ok"


# The playbook ---------------------------------------------------------------------------------------------------------


def test_the_playbook_compares_weeks_and_hides_nothing(tmp_path, site, store):
    folder = tmp_path / "tools"
    address = f"{site.url}/"
    good, slow = report(lcp=1500, url=address), report(lcp=2450, url=address)
    tools = web.options(folder, good, good, good, slow, turns={"heap_bytes": [9] * 25, "nodes": [], "listeners": []})
    steps = [{"click": "#open"}]
    project = Project.for_application(
        tmp_path,
        **store,
        web_performance_tools_path=tools["tools_path"],
        web_performance_chromium=tools["chromium"],
        web_performance_runs=3,
        web_performance_pages=[{"name": "home", "url": address}],
        web_performance_flows=[{"name": "notes", "url": f"{site.url}/notes", "steps": steps}],
        web_performance_access_logs=[str(site.access_log)],
        web_performance_min_requests=1,
        web_performance_cache_classes=[{"name": "none", "pattern": "^/nobody/", "min_hit_rate": 0.0}],
    )
    first = project.run("performance.yml", "--tags", "weekly")
    assert first.code == 0, first.output
    assert first.results["web_baseline"][0]["kept_pages"] == 1
    second = project.run("performance.yml", "--tags", "weekly")
    assert second.code == 2, second.output
    assert "page_regression:home" in second.output
    assert "kept_pages" not in second.results["web_baseline"][0]
    # What came after the page that got worse was looked at all the same.
    assert second.results["heap_growth_info"][0]["status"] == "ok"
    assert second.record is not None
    text = (second.record / "report.md").read_text()
    assert "Serve images in next-gen formats" in text
    metrics = (second.record / "metrics.prom").read_text()
    assert re.search(r'^runbook_web_page_ok{.*page="home".*} 0', metrics, re.MULTILINE), metrics
    assert re.search(r'^runbook_web_heap_ok{.*flow="notes".*} 1', metrics, re.MULTILINE), metrics
    monthly = project.run("performance.yml", "--tags", "monthly")
    assert set(monthly.results) >= {"asset_info", "cdn_cache_info"}, monthly.output
    assert monthly.results["cdn_cache_info"][0]["unknown"][0]["kind"] == "hit_rate:none", monthly.output


def test_databases_that_are_red_hide_no_pages_and_no_tag_asks_for_none(tmp_path, site):
    pages = [{"name": "home", "url": f"{site.url}/"}]
    project = Project.for_application(tmp_path, web_performance_pages=pages)
    gone = {"db_login_host": "127.0.0.1", "db_login_port": 1, "db_login_user": "u", "db_login_db": "d"}
    project.hosts = {"db": gone | {"db_ssl_mode": "prefer", "preflight_system_identifier": "7"}}
    monthly = project.run("performance.yml", "--tags", "monthly")
    assert monthly.code != 0
    assert {"pg_query_info", "asset_info"} <= monthly.results.keys(), monthly.output
    alone = project.run("performance.yml")
    assert alone.code != 0
    assert "asset_info" not in alone.results
    assert alone.record is not None
    record = json.loads((alone.record / "record.json").read_text())
    assert list(record["hosts"]) == ["db"]
    weekly = project.run("performance.yml", "--tags", "weekly")
    assert "pg_query_info" not in weekly.results
    assert "asset_info" not in weekly.results
