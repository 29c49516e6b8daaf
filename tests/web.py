"""What looks at pages in the tests: the real programs, fetched once, or stand-ins for a module's own behaviour."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tools import web_tools

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = "chromium"
#: In the place of Lighthouse's command: writes the next of the prepared reports, or what it is told to do.
_LIGHTHOUSE = """\
const { existsSync, readFileSync, writeFileSync } = require('fs');
const at = `${__dirname}/turn`;
const turn = existsSync(at) ? Number(readFileSync(at, 'utf8')) : 0;
writeFileSync(at, String(turn + 1));
const answers = JSON.parse(readFileSync(`${__dirname}/answers.json`, 'utf8'));
const answer = answers[Math.min(turn, answers.length - 1)];
const to = process.argv.find((word) => word.startsWith('--output-path=')).slice('--output-path='.length);
if (answer === null) { console.error('Runtime error encountered: it crashed'); process.exit(1); }
writeFileSync(to, JSON.stringify(answer));
"""
_TURNS = """\
import { readFileSync } from 'node:fs';
console.log(readFileSync(new URL('./turns.json', import.meta.url), 'utf8'));
"""
#: In the place of Chromium: says that it listens, and waits, or dies.
_CHROMIUM = """\
#!/bin/sh
for word in "$@"; do case $word in --user-data-dir=*) profile=${word#--user-data-dir=};; esac; done
mkdir -p "$profile"
printf '1\\n/devtools\\n' > "$profile/DevToolsActivePort"
exec sleep WAIT
"""


def real_tools() -> Path:
    """The folder with Lighthouse and Puppeteer; the test is skipped where there is none, and no Chromium."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed (Debian's package chromium), so no page was measured")
    failure = web_tools.install()
    if failure:
        pytest.skip(f"Lighthouse cannot be fetched, so no page was measured: {failure}")
    return web_tools.FOLDER


def options(folder: Path, *answers: Any, turns: Any = None, lives_s: str = "60") -> dict[str, Any]:
    """Options of a module that looks through stand-ins, which answer with these reports, one after the other.

    :param answers: of Lighthouse; None: it fails
    :param turns: what Puppeteer measured
    :param lives_s: how long Chromium lives
    """
    if shutil.which("node") is None:
        pytest.skip("node is not installed (Debian's package nodejs), so no module looked at a page")
    command = folder / "node_modules/lighthouse/cli/index.js"
    command.parent.mkdir(parents=True)
    command.write_text(_LIGHTHOUSE)
    (command.parent / "answers.json").write_text(json.dumps(answers))
    (folder / "heap_turns.mjs").write_text(_TURNS)
    (folder / "turns.json").write_text(json.dumps(turns or {}))
    program = folder / "chromium"
    program.write_text(_CHROMIUM.replace("WAIT", lives_s))
    program.chmod(0o755)
    return {"tools_path": str(folder), "chromium": str(program)}
