"""The endpoint of the npm registry that ``pnpm audit`` asks since version 11: https://pnpm.io/cli/audit."""

from __future__ import annotations

from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply


class FakeNpmAudit(FakeService):
    """It knows what the test says, by the name of the package; pnpm itself compares the versions."""

    service: ClassVar[str] = "npm"

    def __init__(self) -> None:
        super().__init__()
        self.advisories: dict[str, list[dict[str, Any]]] = {}

    def advisory(self, name: str, package: str, vulnerable: str, severity: str = "high") -> None:
        """Make one known."""
        self.advisories.setdefault(package, []).append(
            {
                "id": 1000 + len(self.advisories), "url": f"https://github.com/advisories/{name}", "severity": severity,
                "title": f"Something about {package}", "vulnerable_versions": vulnerable, "cwe": ["CWE-77"],
                "cvss": {"score": 7.2, "vectorString": None},
            }
        )  # fmt: skip

    def answer(self, asked: Asked) -> Reply:
        """What the registry answers."""
        if asked.line != "POST /-/npm/v1/security/advisories/bulk":
            return Reply(404, {"error": "Not found"})
        return Reply(200, {name: self.advisories[name] for name in asked.body if name in self.advisories})
