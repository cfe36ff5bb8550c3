"""Rows of the table of a reconstruction: reliability, adaptation, uncertainty, coils, weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import ensemble_label, input_facts

if TYPE_CHECKING:
    from crnn_cli.adaptation.adapt import AdaptProgress


MEASURES = {"held_out": "lines held out", "residual": "the samples"}


def decisive_residual(found: dict[str, Any]) -> tuple[str, float | None]:
    """Return where the residual that counts was measured, and it: at lines held out, else at the samples."""
    held = found["trust"]["held_out"].get("overall")
    return ("residual", found["residual"]) if held is None else ("held_out", held)


def reliability_rows(found: dict[str, Any]) -> list[list[str]]:
    """Return rows of (what, value, what it means) for a report; none of one of an older version."""
    trust = found.get("trust")
    if trust is None:
        return []
    return [
        ["residual at lines held out", _held(trust["held_out"]), "error where the method was not shown the data; 1 is "
         "no better than zeros, and it cannot be below the noise"],
        ["not determined by the data", _share(trust["undetermined"]["overall"]), "share of the image's energy that "
         "rests on the method alone"],
        ["frames that stand out", _standing_out(trust["stand_out"], input_facts(found)), "error more than 3 robust "
         "deviations above those of their slice, each against what is to be expected at its samples; frames from 0, "
         "slices from 1"],
    ]  # fmt: skip


def with_floor(residual: dict[str, Any], digits: str = ".3f") -> str:
    """Return a residual and, where it is known, what noise alone would give."""
    value, floor = residual["overall"], residual["noise_floor"]
    said = "not known" if value is None else f"{value:{digits}}"
    return said if floor is None else f"{said} (noise alone: {floor:.2g})"


def _held(held: dict[str, Any]) -> str:
    if held.get("overall") is None:
        return f"not measured: {held['reason']}" if held["reason"] else "not measured: the samples are zero"
    folds = "1 fold" if held["folds"] == 1 else f"{held['folds']} folds"
    return f"{with_floor(held)}, {folds} of {100 * held['share']:.3g} % of the lines"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.3g} % of the energy"


def _standing_out(frames: list[dict[str, Any]], source: dict[str, Any]) -> str:
    if not frames:
        return "none"
    said = [
        f"frame {one['frame']} of slice {source.get('slice', one['slice'])} "
        f"({one['times_expected']:.1f} x at {MEASURES[one['measure']]})"
        for one in frames[:6]
    ]
    return ", ".join(said) + (f" and {len(frames) - 6} more" if len(frames) > 6 else "")


def uncertainty_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return rows of (what, value, what it means) for a report; none where there is no map."""
    found = report.get("uncertainty")
    if found is None:
        return []
    share = "" if found["relative"] is None else f", {100 * found['relative']:.3g} % of their brightness"
    scale = f"scale {found['scale']:.3g}" if found["calibrated"] else "scale 1, not calibrated for this method"
    mean = f"{found['mean_in_bright_parts']:.3g} in the bright parts{share}"
    said = [
        ["uncertainty", f"{mean}; {found['runs']} runs, {scale}",
         f"mean of the standard deviation per pixel, from runs without some of the lines; {found['cannot_see']}"],
    ]  # fmt: skip
    if "against_truth" in found:
        said.append(["truth within the uncertainty", format_coverage(found["against_truth"]), "in the body; known, as the scan "
                     "was simulated"])  # fmt: skip
    return said


def format_coverage(found: dict[str, Any]) -> str:
    """Return the share of pixels whose truth lies within 1, 1.64 and 2 standard deviations, in words."""
    parts = [f"{100 * found[f'within_{width}']:.1f} % within {width}" for width in ("1", "1.64", "2")]
    return ", ".join(parts) + " sd"


def format_progress(told: AdaptProgress) -> str:
    """Return a line on the way."""
    of = f" of {'' if told.step == told.steps else 'about '}{told.steps}" if told.steps else ""
    if told.step == 0:
        return f"adapting: residual at the lines held out {told.before:.4f} at first, after {told.seconds:.0f} s"
    return (
        f"adapting: step {told.step}{of}, residual at the lines held out {told.before:.4f} -> {told.best:.4f} "
        f"({_change(told.before, told.best)}), {told.seconds:.0f} s"
    )


def _change(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %" if before else "0 %"


def adaptation_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return what a table says, no row where nothing was asked for."""
    found = report.get("adapted")
    if found is None:
        return []
    if not found["used"]:
        return [["tuned to this scan", f"no: {found['why']}"]]
    before, after = found["validation_residual"]["before"], found["validation_residual"]["after"]
    gain = f"residual at lines never tuned on {before:.3f} -> {after:.3f} ({_change(before, after)})"
    return [["tuned to this scan", f"{found['best_step']} steps of {found['steps']}, {gain}"]]


def reconstruction_rows(target: Path, title: str, report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run."""
    axis = "both axes" if report.get("undersampled_axes") == 2 else report["undersampled_axis"]
    rows = [
        ["data", report["origin"]],
        ["acceleration", f"{report['acceleration']:.2f}x along {axis}"],
        *([["pattern", report["pattern"]]] if "pattern" in report else []),
        ["method", title + _weights(report.get("weights")) + ensemble_label(report)],
        *adaptation_rows(report),
        ["residual at the samples", f"{report['residual']:.1e}"],
        *(row[:2] for row in reliability_rows(report)),
        *(row[:2] for row in uncertainty_rows(report)),
        ["time", f"{report['seconds']:.1f} s on {report['device']}"],
    ]
    if report.get("coils"):
        rows.insert(1, ["coils", _coils(report["coils"][0])])
    for name, found in report.get("quality_against_truth", {}).items():
        decibel = "infinite" if found["identical"] else f"{found['psnr_db']:.2f} dB"
        rows.append([f"{name} vs truth", f"PSNR {decibel}, SSIM {found['ssim']:.4f}"])
    rows.append(["written", "standard output" if target == STREAM else str(target)])
    return rows


def _weights(used: Sequence[float] | None) -> str:
    """Return the weights of a classical method, in words; nothing where it has none."""
    if not used or not any(used):
        return ""
    least, most = f"{min(used):.2g}", f"{max(used):.2g}"
    return f", weight {least}" + (f" to {most}" if most != least else "")


def _coils(facts: dict[str, Any]) -> str:
    """Return what was done to the coils of a slice, in words."""
    said = [str(facts["coils"])]
    if facts["whitened"]:
        said.append("noise made white")
    if "energy_kept" in facts:
        said.append(f"compressed to {facts['used']} ({100 * facts['energy_kept']:.1f} % of the energy)")
    if "calibration" in facts:
        said.append(f"ESPIRiT from {' x '.join(map(str, facts['calibration']))} samples")
    elif "maps" in facts:
        said.append("sensitivities given")
    return ", ".join(said)


def segmentation_rows(target: Path, report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run."""
    slices = report["slices"]
    rows = [
        ["model", f"{report['model']['name']} ({report['model']['licence']})"],
        ["slices", f"{slices['first']} to {slices['last']} of {slices['in_stack']} along {slices['array_axis']}, "
                   f"{slices['plane']}"],
    ]  # fmt: skip
    for label in report["labels"]:
        least, most = min(label["volume_ml"]), max(label["volume_ml"])
        volume = f"{most:.4g} ml" if report["frames"] == 1 else f"{least:.4g} to {most:.4g} ml over frames"
        rows.append([label["name"], volume])
    rows.append(["time", f"{report['seconds']:.1f} s on {report['device']}"])
    several = report["frames"] if isinstance(report.get("output"), list) and report["frames"] > 1 else 0
    place = f"{several} files, {report['output'][0]} to {Path(report['output'][-1]).name}" if several else str(target)
    rows.append(["written", "standard output" if target == STREAM else place])
    return rows
