#!/usr/bin/python
"""Ansible module asset_info: files of pages that cost more bytes than they must."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asset_info
short_description: Find files of pages that cost more bytes than they must
description:
  - Looks at each file that pages load, such as pictures, fonts, scripts and styles, as the server sends it. Files are
    told by what they cost in all, bytes times requests, where a log says how often each is asked for.
  - Of a log's other paths only files are looked at that lie in a folder of the page's scripts or styles, as any other
    path may name a person. No other host is asked, and nothing behind a page to log in.
  - What another form would save is measured. Pictures are written as WebP and AVIF, with a quality of 80; text that
    comes uncompressed is compressed by brotli and gzip.
  - Finds files that a page names and that are not there; and files that may be kept for too short a time. One whose
    name has the hash of its content may be kept for good.
  - Changes nothing, and no file is kept.
options:
  pages:
    description:
      - Addresses of the pages, all of one site.
    type: list
    elements: str
    required: true
  access_logs:
    description:
      - Logs of the web server, on this machine; C(.gz) too. Without them each file counts as asked for once.
    type: list
    elements: path
    default: []
  log_pattern:
    description:
      - Regular expression of a line with the group C(path). Without it the form that nginx calls combined.
    type: str
  large_bytes:
    description:
      - A file of so many bytes is large, 1 to 1000000000.
    type: int
    default: 200000
  min_kept_s:
    description:
      - How long a file without a hash in its name should be kept, in seconds, 0 to 31536000.
    type: int
    default: 3600
extends_documentation_fragment: runbook_site
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
- name: Find files that cost too much
  asset_info:
    pages: [https://app.example.com/, https://app.example.com/login]
    access_logs: [/var/log/nginx/access.log]
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where one request for a file wastes 500 KB, or a script or style is not there,
    V(unknown) where one could not be judged.
  type: str
  returned: always
findings:
  description: What is wrong, in the form of M(pg_index_info); C(asset_missing), C(asset_uncompressed),
    C(asset_large), C(asset_cache).
  type: list
  elements: dict
  returned: success
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: success
unknown:
  description: Files that could not be judged, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: success
assets:
  description:
    - Each file with C(path), C(content_type), C(served_bytes), C(raw_bytes), C(encoding), C(requests), C(cost_bytes),
      C(best_bytes) and C(best_form) (null and empty where none was tried), C(saved_bytes) in all, C(cache_control) and
      C(kept_s). The dearest first.
  type: list
  elements: dict
  returned: success
cost_bytes:
  description: Bytes of all files times their requests.
  type: int
  returned: success
saved_bytes:
  description: What other forms would save of them.
  type: int
  returned: success
requests_from:
  description: V(log), or V(none) where each file counts once.
  type: str
  returned: success
duration_s:
  description: Seconds that it took.
  type: float
  returned: success
"""

import posixpath
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.web import cache_sources, encodings, site
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import assets as rules
from ansible.module_utils.runbook.rules.web import bundle, cdn
from ansible.module_utils.runbook.rules.web.lighthouse import is_another
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.findings import Finding

_CSS_URL = re.compile(r"""url\(\s*["']?([^"')\s]+)["']?\s*\)""")
#: Files that are looked at, the dearest first.
MOST = 500
BOUNDS = site.BOUNDS | {"large_bytes": (1, 1_000_000_000), "min_kept_s": (0, rules.IMMUTABLE_S)}


def core(context: Context) -> dict[str, Any]:
    """Look at each file, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not params["pages"]:
        raise RunbookError("pages: it is empty; name at least one page.")
    for each in params["pages"]:
        check_address("pages", each)
    clock = Clock(params["deadline_s"])
    logged = requests(context, clock)
    pages = site.Site(params["pages"][0], clock, is_another, timeout_s=params["timeout_s"], ca_cert=params["ca_cert"])
    named = of_pages(pages, params["pages"], logged)
    urls = list(named)[:MOST]

    def tick(number: int) -> None:
        context.progress.update("files", number, len(urls), "files")

    unread: list[Unknown] = []
    gone: list[Finding] = []
    wanted = {url: named[url] for url in urls}
    seen = sorted(measured(pages, wanted, logged, tick, (unread, gone)), key=lambda each: (-each.cost_bytes, each.path))
    found, unknown = rules.judge(
        seen, large_bytes=params["large_bytes"], min_kept_s=params["min_kept_s"], by_log=bool(logged)
    )
    found, unknown = gone + found, unknown + unread
    if len(named) > MOST:
        msg = f"{count(len(named) - MOST, 'file')} beyond the first {MOST} were not looked at; name fewer pages."
        unknown.append(Unknown("assets", msg))
    if not seen and not unknown and not gone:
        unknown.append(Unknown("assets", "The pages name no file of their own; name pages that do."))
    cost, saved = sum(each.cost_bytes for each in seen), sum(each.saved_bytes for each in seen)
    told = f"{count(len(seen), 'file')}, {size(cost)}"
    told += f", of which other forms would save {size(saved)}" if saved else ""
    said = findings.results(found, unknown, of=told)
    return context.conclude(
        Status(said.pop("status")),
        **said,
        assets=[each.result() for each in seen],
        cost_bytes=cost,
        saved_bytes=saved,
        requests_from="log" if logged else "none",
        duration_s=round(clock.passed_s(), 1),
    )


def of_pages(served_by: site.Site, pages: Sequence[str], logged: Mapping[str, int]) -> dict[str, str]:
    """Addresses of the files that pages name, each with its page; and of what the log has beside them, with no page.

    Those of other sites are left out. Of the log only what lies in a folder from which a page loads a script or style:
    any other path may name a person, and is neither asked for nor told.

    :param logged: requests by path
    """
    found: dict[str, str] = {}
    for page in pages:
        served = served_by.get(page)
        if served.status != 200:
            raise RunbookError(f"pages: {page} answers with {served.status}; mend the page first.")
        host = urlsplit(served.url).netloc
        at_once, others = bundle.of_html(served.content().decode(errors="replace"))
        for name in (*at_once, *others):
            _note(found, urljoin(served.url, name), host, page)
        for url in [each for each in found if bundle.kind_of(each) == "style"]:
            # One that cannot be read is told when it is measured.
            with suppress(RunbookError):
                style = served_by.get(url)
                for name in _CSS_URL.findall(style.content().decode(errors="replace")) if style.status == 200 else ():
                    _note(found, urljoin(url, name), host, page)
    top = served_by.url
    of_build = {posixpath.dirname(urlsplit(url).path) for url in found if bundle.kind_of(url)} - {"/"}
    for path in sorted(logged, key=lambda each: -logged[each]):
        folder, _, file = path.rpartition("/")
        # What a program answers is no file.
        if folder in of_build and "." in file and not file.endswith(".html"):
            _note(found, urljoin(top, path), urlsplit(top).netloc, "")
    return found


def _note(found: dict[str, str], url: str, host: str, page: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.scheme in ("http", "https") and parts.netloc == host:
        found.setdefault(parts._replace(fragment="").geturl(), page)


def measured(
    served_by: site.Site,
    wanted: Mapping[str, str],
    logged: Mapping[str, int],
    tick: Callable[[int], None],
    others: tuple[list[Unknown], list[Finding]],
) -> Iterator[rules.Asset]:
    """Each file with its smallest other form.

    :param wanted: addresses, each with the page that names it; what a log alone names may be gone
    :param tick: is told how many were looked at
    :param others: get those that gave no answer that can be judged, and those that are not there
    """
    unread, gone = others
    for number, (url, page) in enumerate(wanted.items()):
        tick(number)
        path = urlsplit(url).path
        try:
            served = served_by.get(url)
        except RunbookError as error:
            unread.append(Unknown(f"asset:{path}", error.message))
            continue
        if served.status in (401, 403, 408, 425, 429) or served.status >= 500:
            unread.append(Unknown(f"asset:{path}", f"{path} answers with {served.status}."))
        elif page and served.status != 200:
            gone.append(rules.missing(path, page, str(served.status)))
        elif page and served.content_type == "text/html":
            # So does an application of a single page with whatever it does not have.
            gone.append(rules.missing(path, page, "a page"))
        if served.status != 200 or served.content_type == "text/html":
            continue
        yield _asset(path, served, logged.get(path, 0) if logged else 1)


def _asset(path: str, served: site.Served, requests: int) -> rules.Asset:
    data, why_not = b"", ""
    forms: dict[str, int] = {}
    try:
        data = served.content()
        if rules.TEXT.match(served.content_type):
            forms = encodings.text_forms(data) if not served.encoding else {}
        elif rules.IMAGE.match(served.content_type):
            forms = encodings.picture_forms(data)
    except RunbookError as error:
        why_not = error.message
    except ValueError as error:
        why_not = str(error)
    best = min(forms, key=lambda name: forms[name], default="")
    return rules.Asset(
        path, served.content_type, len(served.body), len(data), served.encoding,
        served.headers.get("cache-control", ""), requests, forms.get(best), best,
        f"{why_not.rstrip('.')}." if why_not else "",
    )  # fmt: skip


def requests(context: Context, clock: Clock) -> Counter[str]:
    """How often each path was asked for, by the logs.

    :raises RunbookError: ``unknown``, a log cannot be read
    """
    pattern = cdn.line_pattern("log_pattern", context.params["log_pattern"] or cdn.REQUEST, frozenset({"path"}))

    def tick(lines: int) -> None:
        context.progress.update("log", lines, None, "lines")
        clock.check("give it more time, or name fewer logs")

    return Counter(path for path, _, _ in cache_sources.of_log(context.params["access_logs"], pattern, tick))


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return site.options() | {
        "pages": {"type": "list", "elements": "str", "required": True},
        "access_logs": {"type": "list", "elements": "path", "default": []},
        "log_pattern": {"type": "str"},
        "large_bytes": {"type": "int", "default": 200_000},
        "min_kept_s": {"type": "int", "default": 3600},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="asset_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
