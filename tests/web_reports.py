"""Reports as Lighthouse writes them, with what is judged of them."""

from __future__ import annotations

from typing import Any

URL = "https://app.example.com/"


def report(
    *,
    score: float = 0.97,
    fcp: float = 1000,
    lcp: float | None = 1500,
    tbt: float = 0,
    tti: float = 2000,
    cls: float = 0.0,
    size: float = 300_000,
    status: int = 200,
    url: str = URL,
    final: str = "",
    benchmark: float = 1000,
    error: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """One run.

    :param error: Lighthouse's code and its sentence, in the place of figures
    """
    final = final or url
    numbers = {
        "first-contentful-paint": fcp, "largest-contentful-paint": lcp, "total-blocking-time": tbt, "speed-index": fcp,
        "interactive": tti, "cumulative-layout-shift": cls, "total-byte-weight": size,
    }  # fmt: skip
    audits: dict[str, Any] = {name: {"numericValue": value} for name, value in numbers.items() if value is not None}
    audits["network-requests"] = {
        "details": {"items": [{"url": final, "resourceType": "Document", "statusCode": status}]}
    }
    audits["modern-image-formats"] = {
        "title": "Serve images in next-gen formats",
        "metricSavings": {"LCP": 1050, "FCP": 0},
        "details": {
            "overallSavingsMs": 900, "overallSavingsBytes": 202_561,
            "items": [{"url": "https://app.example.com/assets/hero.png", "wastedBytes": 202_561}],
        },
    }  # fmt: skip
    return {
        "lighthouseVersion": "12.2.1",
        "requestedUrl": url,
        "mainDocumentUrl": final,
        "finalDisplayedUrl": final,
        "environment": {"benchmarkIndex": benchmark},
        "audits": {} if error else audits,
        "categories": {"performance": {"score": None if error else score}},
        **({"runtimeError": {"code": error[0], "message": error[1]}} if error else {}),
    }
