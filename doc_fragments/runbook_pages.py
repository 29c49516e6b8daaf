"""Options of modules that look at pages."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_pages)."""

    DOCUMENTATION = r"""
options:
  pages:
    description:
      - Pages, and what each has to answer. A redirect is not followed, so name the last address.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What it is called in the result.
        type: str
        required: true
      url:
        description:
          - Its address. It is printed and kept, so it holds no user and no query.
        type: str
        required: true
      status:
        description:
          - HTTP status.
        type: int
        default: 200
      text:
        description:
          - Text that has to be in it.
        type: str
        default: ""
      version:
        description:
          - Version that has to be served.
        type: str
        default: ""
      version_header:
        description:
          - Header that says the version.
        type: str
        default: ""
      version_field:
        description:
          - Field of the page's JSON that says the version, as C(build.version).
        type: str
        default: ""
      ca_cert:
        description:
          - File with the certificate authorities that are trusted for it instead of the system's.
        type: path
"""
