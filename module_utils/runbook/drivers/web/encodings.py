"""How small a file becomes in another form: text by gzip and brotli, pictures by WebP and AVIF; it is really made."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import brotli
from ansible.module_utils.runbook.rules.web.bundle import Sizes
from ansible.module_utils.runbook.rules.words import count
from PIL import Image, features

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The usual quality of photographs on pages; https://web.dev/articles/serve-images-webp
QUALITY = 80
#: A picture of more pixels takes seconds and gigabytes.
MOST_PIXELS = 40_000_000
#: What Pillow may take a file for; others of its readers start programs, or are hardly looked after.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF")


def sizes(data: bytes) -> Sizes:
    """A text as it is, and compressed once and for all, as a build or a cache does."""
    return Sizes(len(data), len(gzipped(data)), len(brotli.compress(data, mode=brotli.MODE_TEXT, quality=11)))


def gzipped(data: bytes) -> bytes:
    """As ``gzip -9`` does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def plain(data: bytes, encoding: str, most: int) -> bytes:
    """The content of a body that came with a ``Content-Encoding``.

    :param most: bytes that it may have
    :raises ValueError: it is not in that form, or larger
    """
    if encoding in ("", "identity"):
        return data
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
        try:
            found = unpacker.decompress(data, most)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if unpacker.unconsumed_tail:
            raise ValueError(f"it has more than {most} bytes")
        if not unpacker.eof:
            raise ValueError("it ends too early")
        return found
    if encoding == "br":
        try:
            return _of_brotli(data, most)
        except brotli.error as error:
            raise ValueError(str(error)) from None
    raise ValueError(f"its encoding {encoding!r} is unknown")


def _of_brotli(data: bytes, most: int) -> bytes:
    # Some bytes of it can hold gigabytes, so it is stopped before they are there.
    unpacker = brotli.Decompressor()
    found = bytearray(unpacker.process(data, output_buffer_limit=most))
    while len(found) <= most and (more := unpacker.process(b"", output_buffer_limit=most)):
        found += more
    if len(found) > most:
        raise ValueError(f"it has more than {most} bytes")
    if not unpacker.is_finished():
        raise ValueError("it ends too early")
    return bytes(found)


def text_forms(data: bytes) -> dict[str, int]:
    """Bytes of a text by the way to compress it."""
    found = sizes(data)
    return {"brotli": found.brotli, "gzip": found.gzip}


#: What Pillow raises for a file that is broken, or made to break it.
_UNREADABLE = (
    OSError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def picture_forms(data: bytes) -> dict[str, int]:
    """Bytes of a picture by its form; those alone that this machine can write.

    :raises ValueError: it is none, it moves, or it is too large
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"it is larger than {count(MOST_PIXELS, 'pixel')}")
                if getattr(picture, "n_frames", 1) > 1:
                    raise ValueError("it moves, and was not tried in another form")
                return dict(_written(picture))
        except _UNREADABLE as error:
            raise ValueError(f"it is no picture that can be read ({type(error).__name__})") from None


def _written(picture: Image.Image) -> Iterator[tuple[str, int]]:
    plain_mode = picture.convert("RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB")
    for name, feature in (("WebP", "webp"), ("AVIF", "avif")):
        if features.check(feature):
            out = io.BytesIO()
            plain_mode.save(out, format=name.upper(), quality=QUALITY)
            yield name, len(out.getvalue())
