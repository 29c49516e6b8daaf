"""Sizes of the files that an application's build made: per chunk, what a page loads at once and what it loads later.

The hash in a file's name changes with each build, so two builds are compared by names without it. What is loaded at
once is what Vite's manifest says (https://vite.dev/guide/backend-integration), and without one what the page's HTML
names, with all that those scripts import before they run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.words import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = ".vite/manifest.json"
#: Text that a build makes, by its ending.
KINDS = {".js": "script", ".mjs": "script", ".css": "style"}
#: Largest sums, in bytes as gzip makes them. 170 KB of scripts at once is what a telephone on a slow network can start
#: within five seconds: https://infrequently.org/2017/10/can-you-afford-it-real-world-web-performance-budgets/
BUDGETS: dict[str, float] = {"initial_script": 170 * 1024, "initial_style": 50 * 1024, "total": 1024 * 1024}
#: A chunk that grew by less is not worth a look.
FLOOR_BYTES = 2048
#: Vite's and Rollup's hash is eight letters of base64url after a dash, webpack's is eight or more of hex after a dot or
#: a dash, esbuild's eight capitals. A word of eight small letters is none.
_HASH = re.compile(
    r"[.-](?=[A-Za-z0-9_-]{8}\.)(?=[A-Za-z0-9_-]*[A-Z0-9_])[A-Za-z0-9_-]{8}(?=\.)|[.-][0-9a-f]{8,64}(?=\.)"
)
#: ``import "./a.js"``, ``from "./a.js"``, ``export … from "./a.js"``; with a bracket it is loaded later.
_STATIC = re.compile(r"""(?:\bimport|\bfrom)\s*["']([^"'\s]+\.m?js)["']""")
#: Every name of a file that a script holds: imports of both kinds, and Vite's list of what a lazy chunk needs.
_NAMED = re.compile(r"""["'`]((?:\.{0,2}/)?[\w@~./-]+\.(?:m?js|css))["'`]""")
#: A build is hundreds of files at most; what is more is not one application.
MAX_FILES = 2000


@dataclass(frozen=True)
class Sizes:
    """One file: its bytes as they are, and compressed as far as each format can."""

    raw: int
    gzip: int
    brotli: int

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.raw + other.raw, self.gzip + other.gzip, self.brotli + other.brotli)


NOTHING = Sizes(0, 0, 0)


@dataclass(frozen=True)
class Chunk:
    """One file of a build."""

    path: str
    sizes: Sizes
    #: Whether the page loads it before it can do anything.
    is_initial: bool

    @property
    def kind(self) -> str:
        """``script`` or ``style``."""
        return kind_of(self.path)

    @property
    def name(self) -> str:
        """Its name in every build."""
        return stable_name(self.path)


def kind_of(path: str) -> str:
    """``script``, ``style``, or empty for what is neither."""
    return KINDS.get(posixpath.splitext(urlsplit(path).path)[1].lower(), "")


def stable_name(path: str) -> str:
    """A path without the hash of its content.

    >>> stable_name("assets/index-DhX3s9_a.js"), stable_name("static/main.1a2b3c4d.chunk.css")
    ('assets/index.js', 'static/main.chunk.css')
    >>> stable_name("assets/page-settings.js"), stable_name("assets/vendor-react-Ab12cd34.js")
    ('assets/page-settings.js', 'assets/vendor-react.js')
    """
    folder, file = posixpath.split(path)
    return posixpath.join(folder, _HASH.sub("", file, count=1))


def id_of(kind: str, path: str) -> str:
    """The id of a finding about a file; the same in each build.

    >>> id_of("asset_large", "/assets/hero-DhX3s9_a.png")
    'asset_large:assets.hero.png'
    """
    return finding_id(kind, *re.split(r"[/.]+", stable_name(path).strip("/")))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.at_once: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element loads."""
        given = {name: value or "" for name, value in attrs}
        if tag == "script" and given.get("src"):
            self.at_once.append(given["src"])
        elif tag == "link" and given.get("href"):
            rel = given.get("rel", "").lower().split()
            # What is prefetched is for the next page.
            if "stylesheet" in rel or "modulepreload" in rel:
                self.at_once.append(given["href"])
            elif "icon" in rel or ("preload" in rel and given.get("as") in ("image", "font")):
                self.images.append(given["href"])
        elif tag in ("img", "source", "video") and (given.get("src") or given.get("srcset") or given.get("poster")):
            sets = [part.split()[0] for part in given.get("srcset", "").split(",") if part.split()]
            self.images += filter(None, [given.get("src"), given.get("poster"), *sets])


def of_html(text: str) -> tuple[list[str], list[str]]:
    """What a page names: scripts and styles that it loads at once; images and fonts."""
    page = _Page()
    page.feed(text)
    return page.at_once, page.images


def static_imports(path: str, text: str) -> list[str]:
    """What a script needs before it runs, as paths below the build's folder."""
    return [_below(path, each) for each in _STATIC.findall(text)]


def named_files(path: str, text: str) -> list[str]:
    """Every script and style that a script names; some may not exist."""
    found = []
    for each in _NAMED.findall(text):
        if each.startswith((".", "/")):
            found.append(_below(path, each))
        else:
            # Vite names what a lazy chunk needs from the top of the build.
            found += [each, posixpath.join(posixpath.dirname(path), each)]
    return list(dict.fromkeys(found))


def _below(path: str, name: str) -> str:
    return urljoin(f"/{path}", name).lstrip("/")


def of_manifest(manifest: object) -> tuple[set[str], set[str]]:
    """Vite's manifest: files that are loaded at once, and all files.

    :raises RunbookError: it is no manifest
    """
    if not isinstance(manifest, Mapping) or not all(
        isinstance(each, Mapping) and isinstance(each.get("file"), str) for each in manifest.values()
    ):
        raise RunbookError(f"{MANIFEST} is not a manifest of Vite's; build with build.manifest: true, or remove it.")
    everything = {str(each["file"]) for each in manifest.values()}
    everything |= {str(style) for each in manifest.values() for style in each.get("css") or []}
    at_once: set[str] = set()
    waiting = [key for key, each in manifest.items() if each.get("isEntry")]
    seen: set[str] = set()
    while waiting:
        key = waiting.pop()
        entry = manifest.get(key)
        if key in seen or entry is None:
            continue
        seen.add(key)
        at_once |= {str(entry["file"]), *map(str, entry.get("css") or [])}
        waiting += map(str, entry.get("imports") or [])
    return at_once, everything


def totals(chunks: Iterable[Chunk]) -> dict[str, Sizes]:
    """Sums: ``initial_script``, ``initial_style``, ``lazy`` and ``total``."""
    found = dict.fromkeys(("initial_script", "initial_style", "lazy", "total"), NOTHING)
    for each in chunks:
        key = f"initial_{each.kind}" if each.is_initial else "lazy"
        found[key] += each.sizes
        found["total"] += each.sizes
    return found


def budgets(option: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Limits that hold: those given over :data:`BUDGETS`, in bytes as gzip makes them.

    :raises RunbookError: one is unknown, or no number
    """
    for name, value in given.items():
        if name not in BUDGETS:
            raise RunbookError(f"{option}: {name} is no sum of a bundle; there are {', '.join(BUDGETS)}.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise RunbookError(f"{option}: {name} is {value!r}; give bytes, 0 or more.")
    return BUDGETS | {name: float(value) for name, value in given.items()}


def by_name(chunks: Sequence[Chunk]) -> dict[str, Chunk]:
    """Chunks by the name that they have in every build; of two with one name each gets a number, the largest first."""
    found: dict[str, Chunk] = {}
    for each in sorted(chunks, key=lambda chunk: (chunk.name, -chunk.sizes.gzip, chunk.path)):
        name, number = each.name, 1
        while name in found:
            number += 1
            name = f"{each.name} ({number})"
        found[name] = each
    return found


def judge(
    chunks: Sequence[Chunk], limits: Mapping[str, float], before: Mapping[str, Any] | None, *, growth_percent: int
) -> list[Finding]:
    """What is too large, and what grew since the last good run.

    :param before: bytes as gzip makes them, by the name of a chunk; None where there was no good run
    :param growth_percent: how much a chunk, or all together, may grow
    """
    found = []
    named = by_name(chunks)
    for key, limit in limits.items():
        now = totals(chunks)[key]
        if now.gzip > limit:
            found.append(_over(key, now, limit, named))
    if before is not None:
        found += _grown(named, before, growth_percent)
    return found


def _over(key: str, now: Sizes, limit: float, named: Mapping[str, Chunk]) -> Finding:
    label = key.replace("_", " ")
    of_it = {
        name: each
        for name, each in named.items()
        if key == "total" or (each.is_initial and key == f"initial_{each.kind}")
    }
    largest = sorted(of_it.items(), key=lambda each: -each[1].sizes.gzip)[:3]
    named_ones = ", ".join(f"{name} {size(each.sizes.gzip)}" for name, each in largest)
    return Finding(
        finding_id("bundle_large", key), "bundle_large", "critical", label,
        {"gzip_bytes": now.gzip, "budget_bytes": limit, "brotli_bytes": now.brotli, "raw_bytes": now.raw},
        f"{label}: {size(now.gzip)} with gzip ({size(now.brotli)} with brotli, {size(now.raw)} raw), at most "
        f"{size(limit)}. The largest: {named_ones}.",
    )  # fmt: skip


def _grown(named: Mapping[str, Chunk], before: Mapping[str, Any], growth_percent: int) -> Iterator[Finding]:
    for name, each in named.items():
        was, now = before.get(name), each.sizes.gzip
        if not isinstance(was, int):
            if each.is_initial and now > FLOOR_BYTES:
                yield Finding(
                    id_of("chunk_new", name), "chunk_new", "warning", name, {"gzip_bytes": now},
                    f"{name} is new, and every page loads its {size(now)} at once.",
                )  # fmt: skip
            continue
        if now - was > max(was * growth_percent / 100, FLOOR_BYTES):
            yield Finding(
                id_of("chunk_grew", name), "chunk_grew", "critical", name,
                {"gzip_bytes": now, "gzip_bytes_before": was},
                f"{name} grew from {size(was)} to {size(now)} ({100 * (now / was - 1) if was else 100:+.0f} %) over "
                f"its least in good runs{'; it is loaded at once' if each.is_initial else ''}.",
            )  # fmt: skip
    total, was_total = (
        sum(each.sizes.gzip for each in named.values()),
        sum(v for v in before.values() if isinstance(v, int)),
    )
    if total - was_total > max(was_total * growth_percent / 100, FLOOR_BYTES):
        yield Finding(
            finding_id("bundle_grew", "total"), "bundle_grew", "critical", "total",
            {"gzip_bytes": total, "gzip_bytes_before": was_total},
            f"All chunks together grew from {size(was_total)} to {size(total)} over their least in good runs.",
        )  # fmt: skip
