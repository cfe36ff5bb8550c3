"""Thresholds that a reconstruction was asked to meet, as its report has them, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MEASURES = {"held_out": "lines held out", "residual": "the samples"}
"""Where a residual is measured, in words, by its key in ``reliability``."""


@dataclass(frozen=True)
class Threshold:
    """One threshold of a report.

    Attributes
    ----------
    option : its Python name, such as ``max_residual``.
    subject, found, asked : what is compared, its value, and what was asked for, in words.
    stated : value and what it is of, in words.
    met : whether it is met; a value that is not known fails.
    """

    option: str
    subject: str
    found: str
    asked: str
    stated: str
    met: bool


def decisive_residual(report: dict[str, Any]) -> tuple[str, float | None]:
    """Measure and value of the residual that counts: at held-out lines where there are any, else at the samples.

    >>> decisive_residual({"reliability": {"residual": {"overall": 0.01}, "held_out": {"overall": 0.3}}})
    ('held_out', 0.3)
    """
    reliability = report["reliability"]
    held = reliability.get("held_out", {}).get("overall")
    return ("residual", reliability["residual"]["overall"]) if held is None else ("held_out", held)


def thresholds(report: dict[str, Any]) -> list[Threshold]:
    """All thresholds of a report; none where none was asked for."""
    found = []
    residual, psnr = report.get("max_residual"), report.get("min_psnr")
    if residual is not None:
        measure, value = decisive_residual(report)
        met = value is not None and value <= residual
        text = "not known" if value is None else f"{value:.4g}"
        place = f"at {MEASURES[measure]}"
        words = f"the residual {place}", text, f"at most {residual:g}", f"{text} {place}"
        found.append(Threshold("max_residual", *words, met))
    if psnr is not None:
        expected = report.get("expected_quality") or {}
        value = expected.get("counted_db")
        subject = "the least expected PSNR" if expected.get("outside") else "the expected PSNR"
        text = "not known" if value is None else f"{value:.1f} dB"
        words = subject, text, f"at least {psnr:g}", f"{subject.removeprefix('the ')} {text}"
        found.append(Threshold("min_psnr", *words, value is not None and value >= psnr))
    return found


def verdict_text(report: dict[str, Any]) -> str:
    """Words for whether the thresholds were met; empty where none was asked for.

    >>> reliability = {"residual": {"overall": 0.01}, "held_out": {"overall": 0.3}}
    >>> verdict_text({"reliability": reliability, "max_residual": 0.5, "passed": True})
    'passed: 0.3 at lines held out, at most 0.5 was asked for'
    """
    checks = thresholds(report)
    if not checks:
        return ""
    parts = [f"{check.stated}, {check.asked} was asked for" for check in checks]
    return f"{'passed' if report['passed'] else 'NOT passed'}: {'; '.join(parts)}"
