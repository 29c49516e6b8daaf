"""Files that cost more bytes than they must, by what they cost in all: bytes times requests.

What re-encoding would save is measured, never estimated: the file was really written in the other form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.findings import Finding, Unknown
from ansible.module_utils.runbook.rules.web.bundle import id_of, kind_of, stable_name
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.rules.findings import Severity

#: A saving below this, in per cent of the file, is not worth another format.
WORTH_PERCENT = 20
#: What one request wastes is critical from here on: a third of what a page may have at all (lighthouse.BUDGETS).
CRITICAL_BYTES = 512_000
#: Kinds of content that a server should compress.
TEXT = re.compile(r"^(?:text/|application/(?:javascript|json|xml|manifest\+json|wasm)|image/svg\+xml)")
IMAGE = re.compile(r"^image/(?:png|jpeg|gif|bmp|tiff)")
#: How long a file whose name has its hash may be kept: for good. https://web.dev/articles/http-cache
IMMUTABLE_S = 31_536_000
_MAX_AGE = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?(\d+)")
_NEVER = re.compile(r"(?:^|[\s,])(?:no-store|no-cache|private)(?:$|[\s,=])")


@dataclass(frozen=True)
class Asset:
    """A file as it is served."""

    path: str
    content_type: str
    #: Bytes of the body as they travel.
    served_bytes: int
    #: Bytes of the content.
    raw_bytes: int
    #: ``br``, ``gzip``, or empty.
    encoding: str
    cache_control: str
    #: Requests in the time that the log covers; 1 where there is no log.
    requests: int
    #: Bytes of the content in the smallest other form that was tried, and its name; None where none was.
    best_bytes: int | None = None
    best_form: str = ""
    #: Why none could be tried.
    why_not: str = ""

    @property
    def cost_bytes(self) -> int:
        """What it costs in all."""
        return self.served_bytes * self.requests

    @property
    def is_worth(self) -> bool:
        """Whether another form is so much smaller that it is worth it."""
        if self.best_bytes is None or self.served_bytes <= 0:
            return False
        return 100 * (self.served_bytes - self.best_bytes) / self.served_bytes >= WORTH_PERCENT

    @property
    def saved_bytes(self) -> int:
        """What the other form would save in all."""
        return (self.served_bytes - self.best_bytes) * self.requests if self.is_worth and self.best_bytes else 0

    @property
    def severity(self) -> Severity:
        """How bad it is that it is served as it is."""
        wasted = self.served_bytes - (self.best_bytes or 0) if self.is_worth else 0
        return "critical" if wasted >= CRITICAL_BYTES else "warning"

    @property
    def has_hash(self) -> bool:
        """Whether another content gets another name."""
        return stable_name(self.path) != self.path

    @property
    def kept_s(self) -> int | None:
        """How long it may be kept; None where the answer does not say."""
        if _NEVER.search(self.cache_control):
            return 0
        found = _MAX_AGE.search(self.cache_control)
        return int(found[1]) if found else None

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "path": self.path, "content_type": self.content_type, "served_bytes": self.served_bytes,
            "raw_bytes": self.raw_bytes, "encoding": self.encoding, "requests": self.requests,
            "cost_bytes": self.cost_bytes, "best_bytes": self.best_bytes, "best_form": self.best_form,
            "saved_bytes": self.saved_bytes, "cache_control": self.cache_control, "kept_s": self.kept_s,
        }  # fmt: skip


def judge(
    assets: Sequence[Asset], *, large_bytes: int, min_kept_s: int, by_log: bool
) -> tuple[list[Finding], list[Unknown]]:
    """What is worth a change; what saves most is told first.

    :param large_bytes: a file from this size on is large
    :param min_kept_s: how long a file without a hash in its name should be kept
    :param by_log: whether the requests were counted in a log
    """
    found: list[Finding] = []
    for each in assets:
        times = f" × {count(each.requests, 'request')} = {size(each.cost_bytes)}" if by_log else ""
        if not each.encoding and TEXT.match(each.content_type) and each.is_worth:
            msg = (
                f"{each.path} is text, and is served uncompressed: {size(each.served_bytes)}{times}; {each.best_form} "
                f"makes it {size(each.best_bytes or 0)}. Let the server compress it."
            )
            found.append(_finding("asset_uncompressed", each.severity, each, msg))
        elif each.served_bytes >= large_bytes:
            better = (
                f"; as {each.best_form} it has {size(each.best_bytes or 0)}" if each.is_worth else
                "; no smaller form was found" if each.best_bytes is not None else ""
            )  # fmt: skip
            msg = f"{each.path} has {size(each.served_bytes)}{times}{better}."
            found.append(_finding("asset_large", each.severity, each, msg))
        kept, wanted = each.kept_s, IMMUTABLE_S if each.has_hash else min_kept_s
        if kept is None or kept < wanted:
            said = f"says {each.cache_control!r}" if each.cache_control else "says nothing of caches"
            why = (
                "its name has the hash of its content, so it can be kept for good"
                if each.has_hash
                else "it is asked for again"
            )
            hint = "public, max-age=31536000, immutable" if each.has_hash else f"public, max-age={min_kept_s}"
            found.append(
                _finding(
                    "asset_cache", "warning", each, f"{each.path} {said}; {why}. Serve it with Cache-Control: {hint}."
                )
            )
    unknown = [Unknown(f"asset:{each.path}", f"{each.path}: {each.why_not}") for each in assets if each.why_not]
    return sorted(found, key=lambda one: -one.evidence["cost_bytes"]), unknown


def missing(path: str, page: str, served: str) -> Finding:
    """A file that a page names and its server does not have. Without a script or a style the page may not work.

    :param served: what was answered in its place
    """
    severity: Severity = "critical" if kind_of(path) else "warning"
    return Finding(
        id_of("asset_missing", path), "asset_missing", severity, path, {"page": page},
        f"{path}: {page} names it, and the server answers with {served}; deploy the file, or take it out of the page.",
    )  # fmt: skip


def _finding(kind: str, severity: Severity, asset: Asset, msg: str) -> Finding:
    evidence: Mapping[str, Any] = {
        "cost_bytes": asset.cost_bytes, "saved_bytes": asset.saved_bytes, "served_bytes": asset.served_bytes,
        "requests": asset.requests,
    }  # fmt: skip
    return Finding(id_of(kind, asset.path), kind, severity, asset.path, evidence, msg)
