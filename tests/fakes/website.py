"""A small application as Vite builds it, and as a web server then has it: ``python -P -m fakes.website FOLDER``.

Its first page loads a script with a library, a style and a picture at once, and the settings later. One page of it
leaks: each session that is opened there is kept, with its listener. One page does not. The picture is a PNG that would
be small in another form, and the style is what the server of the sandbox does not compress.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from base64 import urlsafe_b64encode
from pathlib import Path

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width"><meta name="description" content="A sample">'
    '<link rel="icon" href="data:,"><link rel="stylesheet" href="/{style}">'
    '<script type="module" src="/{script}"></script></head>'
)
_HOME = '<body><h1>Mental Scribe</h1><p>Notes of sessions.</p><img src="/{picture}" width="320" height="240" alt="">'
_LEAK = '<body><h1>Sessions</h1><button id="open">Open a session</button><main></main>'
_STEADY = '<body><h1>Notes</h1><button id="open">Open a note</button><main></main>'
_LIBRARY = "export const escape = (text) => String(text).replace(/[<&]/g, (sign) => `&#${sign.charCodeAt(0)};`);\n"
_ENTRY = """\
import {{ escape }} from "./{library}";
const kept = [];
const main = document.querySelector("main");
document.querySelector("#open")?.addEventListener("click", () => {{
  const view = document.createElement("section");
  view.innerHTML = escape("A session") + "<p>".repeat(20);
  const words = new Array(5000).fill(0).map((_, index) => index / 3);
  view.addEventListener("click", () => words.length);
  main.replaceChildren(view);
  if (location.pathname.startsWith("/sessions")) {{ kept.push([view, words]); }}
}});
export const settings = () => import("./{settings}");
"""
_SETTINGS = 'export const names = ["language", "theme"];\n' + "".join(
    f"export const option{number} = {{ name: {number}, text: 'Option number {number}' }};\n" for number in range(60)
)
_STYLE = "".join(f".note-{number} {{ color: #{number:03d}; padding: {number}px }}\n" for number in range(300))


def write(folder: Path) -> dict[str, str]:
    """Write the build; the paths of its files by their names without a hash."""
    names: dict[str, str] = {}

    def put(stem: str, ending: str, data: bytes) -> str:
        digest = urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        # Vite's are eight letters; one that begins with a dash would be read as another name.
        name = f"{stem}-{digest.replace('-', 'x').replace('_', 'y')[:7]}Z{ending}"
        path = folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        names[f"{stem}{ending}"] = f"assets/{name}"
        return name

    library = put("library", ".js", _LIBRARY.encode())
    settings = put("settings", ".js", _SETTINGS.encode())
    put("index", ".js", _ENTRY.format(library=library, settings=settings).encode())
    put("index", ".css", _STYLE.encode())
    put("portrait", ".png", png(320, 240))
    head = {"style": names["index.css"], "script": names["index.js"]}
    pages = {"index": ("Mental Scribe", _HOME), "sessions": ("Sessions", _LEAK), "notes": ("Notes", _STEADY)}
    for name, (title, body) in pages.items():
        text = _HEAD.format(title=title, **head) + body.format(picture=names["portrait.png"]) + "</body></html>\n"
        (folder / f"{name}.html").write_text(text)
    return names


def write_manifest(folder: Path, names: dict[str, str]) -> None:
    """Write Vite's manifest beside the build."""
    manifest = {
        "index.html": {
            "file": names["index.js"], "isEntry": True, "css": [names["index.css"]], "imports": ["_library.js"],
            "dynamicImports": ["src/settings.js"],
        },
        "_library.js": {"file": names["library.js"]},
        "src/settings.js": {"file": names["settings.js"], "isDynamicEntry": True},
    }  # fmt: skip
    (folder / ".vite").mkdir(exist_ok=True)
    (folder / ".vite/manifest.json").write_text(json.dumps(manifest))


def png(width: int, height: int) -> bytes:
    """A picture of many colours, written without filters, as some programs still do."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in ((x * y) >> 6 & 255, (x + y) & 255, (x ^ y) & 255))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows, 1)) + part(b"IEND", b"")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
