"""Options of modules that look at pages through Chromium."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_browser)."""

    DOCUMENTATION = r"""
options:
  tools_path:
    description:
      - Folder with Lighthouse and Puppeteer, as C(python -m tools.web_tools) makes it.
    type: path
    required: true
  node:
    description:
      - Node.js 20 or newer, by its name or its path.
    type: str
    default: node
  chromium:
    description:
      - Chromium, by its name or its path. It runs without a window, and with a fresh profile each time.
    type: str
    default: chromium
  ca_cert:
    description:
      - File with certificate authorities that Chromium trusts besides its own. Needs C(certutil).
    type: path
  deadline_s:
    description:
      - Longest time for all of it, in seconds, 10 to 14400.
    type: int
    default: 1800
"""
