#!/usr/bin/python
"""Ansible module bundle_info: sizes of the files that an application's build made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_info
short_description: Measure the bundle of an application
description:
  - Measures each script and style of a build, raw, with gzip and with brotli, and tells what a page loads at once from
    what it loads later. The build is a folder, or what a server sends.
  - What is loaded at once stands in Vite's manifest (C(.vite/manifest.json)) or, without one, in the HTML of the first
    page and in the imports of its scripts.
  - Compares sums with budgets, and each chunk with the least that it had in good runs. Names are compared without the
    hash of a file's content.
  - Changes nothing. M(web_baseline) keeps what a good run measured.
options:
  name:
    description:
      - Name of the application, under which the last good run is kept.
    type: str
    required: true
  folder:
    description:
      - Folder that the build wrote, with its C(index.html). It excludes O(url).
    type: path
  url:
    description:
      - Address of the first page. It excludes O(folder). What a script loads later is found by its name in the script.
    type: str
  budgets:
    description:
      - The most bytes, as gzip makes them, of C(initial_script), C(initial_style) and C(total). What is not named may
        have 170 KiB, 50 KiB and 1 MiB.
    type: dict
    default: {}
  growth_percent:
    description:
      - How much a chunk, and all together, may grow over the least of good runs, in per cent, 1 to 1000. 2 KiB are no
        growth.
    type: int
    default: 10
extends_documentation_fragment:
  - runbook_site
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Measure what users load
  bundle_info:
    name: mental-scribe
    url: https://app.example.com/
    budgets: {initial_script: 120000}
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
msg:
  description: What was found, in one sentence with the sums.
  type: str
  returned: always
status:
  description: V(ok), V(breach) with a critical finding.
  type: str
  returned: always
findings:
  description: What is wrong, in the form of M(pg_index_info); C(bundle_large), C(bundle_grew), C(chunk_grew),
    C(chunk_new).
  type: list
  elements: dict
  returned: success
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: success
unknown:
  description: Always empty; what cannot be measured fails the task.
  type: list
  elements: dict
  returned: success
chunks:
  description:
    - Each file with C(name) (without its hash), C(path), C(kind) (V(script) or V(style)), C(is_initial), C(raw_bytes),
      C(gzip_bytes), C(brotli_bytes), and C(grown_bytes) over its least in good runs, null where it is new.
  type: list
  elements: dict
  returned: success
sums:
  description:
    - C(initial_script), C(initial_style), C(lazy) and C(total), each with C(raw_bytes), C(gzip_bytes), C(brotli_bytes).
  type: dict
  returned: success
gone:
  description: Chunks of the last good run that are there no more.
  type: list
  elements: str
  returned: success
budgets:
  description: The limits that hold.
  type: dict
  returned: success
compared_with:
  description: When the last good run was; empty where there is none.
  type: str
  returned: success
duration_s:
  description: Seconds that it took.
  type: float
  returned: success
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.web import baselines, encodings, site
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import bundle
from ansible.module_utils.runbook.rules.web.baseline import document_name
from ansible.module_utils.runbook.rules.web.lighthouse import is_another
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = site.BOUNDS | {"growth_percent": (1, 1000)}


def core(context: Context) -> dict[str, Any]:
    """Measure, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    limits = bundle.budgets("budgets", params["budgets"])
    clock = Clock(params["deadline_s"])
    source = _source(params, clock)
    before = baselines.read(document_name(params["name"]), params, context.run)
    chunks = chunks_of(source)
    named = bundle.by_name(chunks)
    sums = bundle.totals(chunks)
    at_once = sums["initial_script"] + sums["initial_style"]
    said = findings.results(
        bundle.judge(chunks, limits, before.chunks, growth_percent=params["growth_percent"]),
        [],
        of=(
            f"{count(len(chunks), 'chunk')}, {size(sums['total'].gzip)} with gzip, of which {size(at_once.gzip)} are "
            "loaded at once"
        ),
    )
    old = before.chunks or {}
    return context.conclude(
        Status(said.pop("status")),
        **said,
        chunks=[
            {
                "name": name, "path": each.path, "kind": each.kind, "is_initial": each.is_initial, **_bytes(each.sizes),
                "grown_bytes": each.sizes.gzip - old[name] if name in old else None,
            }
            for name, each in named.items()
        ],
        sums={name: _bytes(each) for name, each in sums.items()},
        gone=sorted(set(old) - set(named)),
        budgets=limits,
        compared_with=before.measured_at if before.chunks is not None else "",
        duration_s=round(clock.passed_s(), 1),
    )  # fmt: skip


def chunks_of(source: site.Source) -> list[bundle.Chunk]:
    """Scripts and styles of a build, what is loaded at once told from what comes later.

    :raises RunbookError: there is no page, no chunk, or a file that the page needs is missing
    """
    html, _ = bundle.of_html(source.start_page())
    at_once = [path for each in html if bundle.kind_of(each) and (path := source.below(each))]
    texts: dict[str, bytes] = {}
    needed, everything = _of_manifest(source)
    needed |= set(at_once)
    waiting = list(needed)
    while waiting:
        path = waiting.pop()
        if path in texts:
            continue
        found = source.read(path)
        if found is None:
            raise RunbookError(f"{path}: the page loads it at once, and it is not there; the build is not whole.")
        texts[path] = found
        if bundle.kind_of(path) == "script":
            waiting += bundle.static_imports(path, found.decode(errors="replace"))
    needed = set(texts)
    everything |= {path for path in source.listed() or [] if bundle.kind_of(path)}
    _follow(source, texts, everything)
    if not texts:
        raise RunbookError(
            "The page loads no script and no style of its own, so there is no bundle; name its start page."
        )
    return [bundle.Chunk(path, encodings.sizes(data), path in needed) for path, data in sorted(texts.items())]


def _of_manifest(source: site.Source) -> tuple[set[str], set[str]]:
    try:
        text = source.read(bundle.MANIFEST)
    except RunbookError as error:
        # Hardly anybody serves it, and some servers ask for a login at any address that they do not know.
        if error.code != site.ELSEWHERE:
            raise
        text = None
    if text is None:
        return set(), set()
    try:
        at_once, everything = bundle.of_manifest(json.loads(text))
    except ValueError:
        raise RunbookError(f"{bundle.MANIFEST} is no JSON; build again.") from None
    return ({each for each in at_once if bundle.kind_of(each)}, {each for each in everything if bundle.kind_of(each)})


def _follow(source: site.Source, texts: dict[str, bytes], everything: set[str]) -> None:
    """Read what is loaded later: what was listed, and what scripts name, where nobody can list it."""
    waiting = sorted(everything)
    is_listed = source.listed() is not None
    if not is_listed:
        waiting += [name for path, data in list(texts.items()) for name in _names(path, data)]
    absent: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in texts or path in absent:
            continue
        if len(texts) + len(absent) > bundle.MAX_FILES:
            raise RunbookError(
                f"The build names more than {count(bundle.MAX_FILES, 'file')}; name its folder.", status=Status.UNKNOWN
            )
        found = source.read(path)
        if found is None:
            absent.add(path)
            continue
        texts[path] = found
        if not is_listed:
            waiting += _names(path, found)


def _names(path: str, data: bytes) -> Sequence[str]:
    return bundle.named_files(path, data.decode(errors="replace")) if bundle.kind_of(path) == "script" else ()


def _source(params: dict[str, Any], clock: Clock) -> site.Source:
    if bool(params["folder"]) == bool(params["url"]):
        raise RunbookError("folder, url: give one of them, so that it is known which build is meant.")
    if params["folder"]:
        return site.Folder(Path(params["folder"]))
    url = check_address("url", params["url"])
    return site.Site(url, clock, is_another, timeout_s=params["timeout_s"], ca_cert=params["ca_cert"])


def _bytes(sizes: bundle.Sizes) -> dict[str, int]:
    return {"raw_bytes": sizes.raw, "gzip_bytes": sizes.gzip, "brotli_bytes": sizes.brotli}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        site.options()
        | state_store.argument_spec()
        | {
            "name": {"type": "str", "required": True},
            "folder": {"type": "path"},
            "url": {"type": "str"},
            "budgets": {"type": "dict", "default": {}},
            "growth_percent": {"type": "int", "default": 10},
        }
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="bundle_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
