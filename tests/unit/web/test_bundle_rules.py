"""Chunks of a build: their names without a hash, what is loaded at once, and what grew."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.web import bundle
from ansible.module_utils.runbook.rules.web.bundle import Chunk, Sizes, stable_name


def chunk(path, gzip, *, is_initial=True):
    return Chunk(path, Sizes(3 * gzip, gzip, gzip // 2), is_initial)


def judged(chunks, before=None, **limits: float):
    return [each.id for each in bundle.judge(chunks, bundle.budgets("budgets", limits), before, growth_percent=10)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("assets/index-BkHZ_x9-.js", "assets/index.js"),
        ("assets/index-4ed8a1b2.css", "assets/index.css"),
        ("static/js/main.8f3c2a91d0.js", "static/js/main.js"),
        ("chunk-ABCDEF23.js", "chunk.js"),
        # Words are no hashes.
        ("assets/user-settings.js", "assets/user-settings.js"),
        ("service-worker.js", "service-worker.js"),
        ("jquery-3.7.1.min.js", "jquery-3.7.1.min.js"),
    ],
)
def test_a_hash_is_not_part_of_a_name(path, name):
    assert stable_name(path) == name


def test_html_names_what_is_loaded_at_once():
    at_once, others = bundle.of_html(
        '<link rel="modulepreload" href="/a.js"><script type=module src=/b.js></script><script>inline()</script>'
        '<link rel=stylesheet href=c.css><link rel="prefetch" href="/later.js"><link rel="icon" href="/i.png">'
        '<img src="/p.png" srcset="/p2.png 2x, /p3.png 3x">'
    )
    assert at_once == ["/a.js", "/b.js", "c.css"]
    assert others == ["/i.png", "/p.png", "/p2.png", "/p3.png"]


def test_a_script_names_what_it_needs_before_it_runs_and_later():
    text = (
        'import{a as b}from"./vendor-a1b2c3d4.js";import "./side.js";export*from\'../up.js\';'
        'const m=["assets/lazy-Xy12Ab34.js","assets/lazy.css"];const f=()=>import("./lazy-Xy12Ab34.js");'
    )
    assert bundle.static_imports("assets/index.js", text) == ["assets/vendor-a1b2c3d4.js", "assets/side.js", "up.js"]
    assert {"assets/lazy-Xy12Ab34.js", "assets/lazy.css"} <= set(bundle.named_files("assets/index.js", text))


def test_a_manifest_tells_entries_from_what_is_lazy():
    manifest = {
        "index.html": {"file": "a.js", "isEntry": True, "imports": ["_v"], "css": ["a.css"], "dynamicImports": ["l"]},
        "_v": {"file": "v.js", "imports": ["index.html"]},
        "l": {"file": "l.js", "isDynamicEntry": True, "css": ["l.css"]},
    }
    assert bundle.of_manifest(manifest) == ({"a.js", "a.css", "v.js"}, {"a.js", "a.css", "v.js", "l.js", "l.css"})
    with pytest.raises(RunbookError, match=r"is not a manifest of Vite's"):
        bundle.of_manifest({"version": 1})


def test_a_budget_is_kept_at_the_limit_and_broken_beyond_it():
    assert judged([chunk("a.js", 1000)], initial_script=1000) == []
    assert judged([chunk("a.js", 1001)], initial_script=1000) == ["bundle_large:initial_script"]
    # What is loaded later counts in the total only.
    lazy = [chunk("a.js", 900), chunk("l.js", 5000, is_initial=False)]
    assert judged(lazy, initial_script=1000) == []
    assert judged(lazy, total=5000) == ["bundle_large:total"]


def test_a_chunk_that_grew_is_found_under_its_new_hash():
    before = {"assets/index.js": 40_000, "assets/gone.js": 1000}
    assert judged([chunk("assets/index-Ab12Cd34.js", 44_000)], before) == []
    assert judged([chunk("assets/index-Ab12Cd34.js", 44_001)], before) == ["chunk_grew:assets.index.js"]
    # A tenth of a small chunk is nothing.
    assert judged([chunk("assets/tiny-Ab12Cd34.js", 2000)], {"assets/tiny.js": 500}) == []


def test_all_together_may_grow_though_no_chunk_did():
    before = {f"{name}.js": 20_000 for name in "abcdef"}
    after = [chunk(f"{name}.js", 20_000) for name in "abcdef"] + [chunk("new.js", 15_000, is_initial=False)]
    assert judged(after, before) == ["bundle_grew:total"]


def test_two_chunks_of_one_name_stay_two():
    named = bundle.by_name([chunk("a-Ab12Cd34.js", 10), chunk("a-Zz99Yy88.js", 90)])
    assert {name: each.sizes.gzip for name, each in named.items()} == {"a.js": 90, "a.js (2)": 10}


def test_a_budget_of_another_sum_is_refused():
    with pytest.raises(RunbookError, match="budgets: entry is no sum of a bundle"):
        bundle.budgets("budgets", {"entry": 1})
