"""Which files are worth a change."""

from __future__ import annotations

import io
from dataclasses import replace

import brotli
import pytest
from ansible.module_utils.runbook.drivers.web import encodings
from ansible.module_utils.runbook.rules.web.assets import Asset, judge
from fakes.website import png
from PIL import Image

PICTURE = Asset(
    "/a/hero-Ab12Cd34.png", "image/png", 300_000, 300_000, "", "public, max-age=31536000", 100, 30_000, "WebP"
)
STYLE = Asset("/style.css", "text/css", 20_000, 20_000, "", "max-age=3600", 1, 3000, "brotli")


def judged(*assets: Asset):
    found, unknown = judge(assets, large_bytes=200_000, min_kept_s=3600, by_log=True)
    return [(each.id, each.severity) for each in found], len(unknown)


def test_files_are_told_by_what_they_cost_and_save_in_all():
    found, _ = judge([STYLE, PICTURE], large_bytes=200_000, min_kept_s=3600, by_log=True)
    assert [each.kind for each in found] == ["asset_large", "asset_uncompressed"]
    assert "× 100 requests" in found[0].msg
    assert "as WebP it has 29.3 KiB" in found[0].msg
    assert (found[0].evidence["cost_bytes"], found[0].evidence["saved_bytes"]) == (30_000_000, 27_000_000)


def test_what_wastes_half_a_megabyte_is_critical():
    heavy = replace(PICTURE, served_bytes=542_000)
    assert judged(heavy)[0] == [("asset_large:a.hero.png", "critical")]
    assert judged(replace(heavy, served_bytes=541_999))[0] == [("asset_large:a.hero.png", "warning")]


def test_a_form_that_saves_little_is_not_proposed():
    assert judged(replace(STYLE, best_bytes=16_001)) == ([], 0)
    assert judged(replace(STYLE, encoding="br", best_bytes=None, best_form="")) == ([], 0)


@pytest.mark.parametrize(
    ("path", "control", "is_told"),
    [
        ("/a.css", "public, max-age=3600", False),
        ("/a.css", "public, max-age=3599", True),
        ("/a.css", "", True),
        ("/a.css", "no-store", True),
        ("/a-Ab12Cd34.css", "public, max-age=3600", True),
        ("/a-Ab12Cd34.css", "public, max-age=31536000, immutable", False),
    ],
)
def test_a_file_with_a_hash_may_be_kept_for_good(path, control, is_told):
    found, _ = judged(replace(STYLE, path=path, cache_control=control, encoding="br", best_bytes=None))
    assert bool(found) is is_told


def test_a_file_that_could_not_be_read_is_unknown():
    assert judged(replace(STYLE, encoding="br", why_not="It is no picture.", best_bytes=None))[1] == 1


def test_forms_are_really_written():
    text = b"body { color: red }\n" * 500
    forms = encodings.text_forms(text)
    assert forms["brotli"] < forms["gzip"] < len(text) / 20
    picture = png(64, 48)
    assert encodings.picture_forms(picture)["WebP"] < len(picture)
    with pytest.raises(ValueError, match="no picture that can be read"):
        encodings.picture_forms(b"GIF89a")


def test_a_bomb_of_brotli_is_stopped_before_it_is_there(monkeypatch):
    def all_at_once(_data):
        raise AssertionError

    packed = brotli.compress(b"0" * 1_000_000)
    monkeypatch.setattr("brotli.decompress", all_at_once)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        encodings.plain(packed, "br", 1000)


def test_only_pictures_of_pages_are_read():
    out = io.BytesIO()
    # What it says to be, nobody believes: for this form Pillow would start Ghostscript.
    Image.new("RGB", (8, 8)).save(out, format="EPS")
    with pytest.raises(ValueError, match=r"no picture that can be read \(UnidentifiedImageError\)"):
        encodings.picture_forms(out.getvalue())


def test_a_body_comes_back_as_it_was_and_a_bomb_does_not():
    packed = encodings.gzipped(b"0" * 1_000_000)
    assert encodings.plain(packed, "gzip", 2_000_000) == b"0" * 1_000_000
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        encodings.plain(packed, "gzip", 1000)
    with pytest.raises(ValueError, match="it ends too early"):
        encodings.plain(packed[:-20], "gzip", 2_000_000)
    packed = brotli.compress(b"0" * 1_000_000)
    assert encodings.plain(packed, "br", 1_000_000) == b"0" * 1_000_000
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        encodings.plain(packed, "br", 1000)
    with pytest.raises(ValueError, match="it ends too early"):
        encodings.plain(packed[:-2], "br", 2_000_000)
    with pytest.raises(ValueError, match="unknown"):
        encodings.plain(b"", "compress", 1000)
