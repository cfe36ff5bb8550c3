"""Rows of the tables that sum up a report, on the terminal and on its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import ensemble_label, input_facts
from crnn_cli.report.verdict import MEASURES

if TYPE_CHECKING:
    from crnn_cli.adaptation.adapt import AdaptProgress


def reliability_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value, meaning) on reliability; none where a report of an older version has no such measures."""
    reliability = report.get("reliability", {})
    if "held_out" not in reliability:
        return []
    return [
        ["residual at lines held out", _held_out(reliability["held_out"]), "error where the method was not shown the "
         "data; 1 is no better than zeros, and what noise alone gives is the least to be expected"],
        ["not determined by the data", _share(reliability["null_space_energy_fraction"]["overall"]), "share of the "
         "image's energy that rests on the method alone"],
        ["outlier frames", _outlier_frames(reliability["outlier_frames"], input_facts(report)), "error more than 3 "
         "robust deviations above those of their slice, each against the error expected at its samples"],
    ]  # fmt: skip


def with_floor(residual: dict[str, Any], digits: str = ".3f") -> str:
    """Write a residual and, where it is known, the residual that noise alone would give.

    >>> with_floor({"overall": 0.25, "noise_floor": 0.1}), with_floor({"overall": None})
    ('0.250 (noise alone: 0.1)', 'not known')
    """
    value, floor = residual["overall"], residual.get("noise_floor")
    text = "not known" if value is None else f"{value:{digits}}"
    return text if floor is None else f"{text} (noise alone: {floor:.2g})"


def _held_out(held: dict[str, Any]) -> str:
    if held.get("overall") is None:
        return f"not measured: {held['reason']}" if held["reason"] else "not measured: the samples are zero"
    folds = "1 fold" if held["folds"] == 1 else f"{held['folds']} folds"
    columns = held.get("columns", 1.0)
    where = "" if columns == 1 else f", in {100 * columns:.0f} % of the columns"
    return f"{with_floor(held)}, {folds} of {100 * held['share']:.3g} % of the lines{where}"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.3g} % of the energy"


def _outlier_frames(frames: list[dict[str, Any]], source: dict[str, Any]) -> str:
    if not frames:
        return "none"
    texts = [
        f"frame {frame['frame'] + 1} of slice {source.get('slice', frame['slice'])} "
        f"({frame['ratio_to_expected']:.1f} x at {MEASURES[frame['measure']]})"
        for frame in frames[:6]
    ]
    return ", ".join(texts) + (f" and {len(frames) - 6} more" if len(frames) > 6 else "")


def uncertainty_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value, meaning) on the map of the uncertainty; none where there is no map."""
    facts = report.get("uncertainty")
    if facts is None:
        return []
    share = "" if facts["relative"] is None else f", {100 * facts['relative']:.3g} % of their brightness"
    scale = f"scale {facts['scale']:.3g}" if facts["calibrated"] else "scale 1, not calibrated for this method"
    mean = f"{facts['mean_in_bright_parts']:.3g} in the bright parts{share}"
    rows = [
        ["uncertainty", f"{mean}; {facts['runs']} runs, {scale}",
         f"mean of the standard deviation per pixel, from runs without some of the lines; {facts['cannot_see']}"],
    ]  # fmt: skip
    if "against_truth" in facts:
        rows.append(["truth within the uncertainty", format_coverage(facts["against_truth"]), "in the body; known, as "
                     "the scan was simulated"])  # fmt: skip
    return rows


def format_coverage(coverage: dict[str, Any]) -> str:
    """Write the share of pixels whose truth lies within 1, 1.64 and 2 standard deviations.

    >>> format_coverage({"within_1": 0.68, "within_1.64": 0.9, "within_2": 0.95})
    '68.0 % within 1, 90.0 % within 1.64, 95.0 % within 2 sd'
    """
    parts = [f"{100 * coverage[f'within_{width}']:.1f} % within {width}" for width in ("1", "1.64", "2")]
    return ", ".join(parts) + " sd"


def format_progress(state: AdaptProgress) -> str:
    """Write the state of a fine-tuning in one line."""
    of = f" of {'' if state.step == state.steps else 'about '}{state.steps}" if state.steps else ""
    if state.step == 0:
        return f"adapting: residual at the lines held out {state.before:.4f} at first, after {state.seconds:.0f} s"
    return (
        f"adapting: step {state.step}{of}, residual at the lines held out {state.before:.4f} -> {state.best:.4f} "
        f"({_change(state.before, state.best)}), {state.seconds:.0f} s"
    )


def _change(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %" if before else "0 %"


def adaptation_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) on the fine-tuning; none where it was not asked for."""
    adapted = report.get("adapted")
    if adapted is None:
        return []
    if not adapted["used"]:
        return [["tuned to this scan", f"no: {adapted['why']}"]]
    before, after = adapted["validation_residual"]["before"], adapted["validation_residual"]["after"]
    gain = f"residual at lines never tuned on {before:.3f} -> {after:.3f} ({_change(before, after)})"
    return [["tuned to this scan", f"{adapted['best_step']} steps of {adapted['steps']}, {gain}"]]


def grid_row(report: dict[str, Any]) -> list[str]:
    """Name and value of the grid of the images.

    >>> images = {"shape": [96, 90, 1, 16], "spacing_mm": [2.5, 2.5, 8.0], "orientation": "LPS", "frame_time_s": 0.04}
    >>> grid_row({"images": images})
    ['images', '96 x 90 x 1 x 16 (x, y, z, t), 2.5 x 2.5 x 8 mm, 40 ms a frame, axes run to LPS']
    """
    images = report["images"]
    shape, spacing = (" x ".join(f"{v:g}" for v in images[name]) for name in ("shape", "spacing_mm"))
    time = (
        "frame time not known" if images["frame_time_s"] is None else f"{1000 * images['frame_time_s']:.4g} ms a frame"
    )
    lies = "orientation not known" if images["orientation"] is None else f"axes run to {images['orientation']}"
    return ["images", f"{shape} ({', '.join('xyzt'[: len(images['shape'])])}), {spacing} mm, {time}, {lies}"]


def quality_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) on the quality of a simulation against its truth; none of another scan."""
    rows = []
    for name, measures in report.get("quality_against_truth", {}).items():
        psnr = "infinite" if measures["identical"] else f"{measures['psnr_db']:.2f} dB"
        rows.append([f"{name.replace('_', '-')} vs truth", f"PSNR {psnr}, SSIM {measures['ssim']:.4f}"])
    return rows


def expected_rows(report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value, meaning) on the PSNR that is expected without a truth; none where the model states none.

    >>> facts = {"psnr_db": 33.1, "low_db": 31.2, "high_db": 34.9, "level": 0.9, "outside": [], "reason": None}
    >>> expected_rows({"expected_quality": facts})[0][:2]
    ['expected PSNR', '33 dB, 31 to 35']
    """
    facts = report.get("expected_quality")
    if facts is None:
        return []
    meaning = (
        f"against the truth, which nobody knows; the interval held it in {100 * facts['level']:.0f} % of the cases"
    )
    if facts["psnr_db"] is None:
        return [["expected PSNR", f"not known: {facts['reason']}", meaning]]
    text = f"{facts['psnr_db']:.0f} dB, {facts['low_db']:.0f} to {facts['high_db']:.0f}"
    beyond = f"; outside what it was fitted on: {'; '.join(facts['outside'])}" if facts["outside"] else ""
    return [["expected PSNR", text + beyond, meaning]]


def acceleration_text(report: dict[str, Any]) -> str:
    """Write the acceleration and its axes.

    >>> acceleration_text({"acceleration": 7.9123, "n_undersampled_axes": 1, "phase_encoding_axis": "y"})
    '7.91x along y'
    """
    axis = "both axes" if report.get("n_undersampled_axes") == 2 else report["phase_encoding_axis"]
    return f"{report['acceleration']:.2f}x along {axis}"


def written_rows(target: Path, outputs: Sequence[Path]) -> list[list[str]]:
    """Rows (name, value) of what was written: the main output, and the names of all others that are there."""
    others = [path for path in outputs if path != target and path.exists()]
    beside = ", ".join(path.name if path.parent == target.parent else str(path) for path in others)
    place = "standard output" if target == STREAM else str(target)
    return [["written", place], *([["and", beside]] if beside else [])]


def reconstruction_rows(
    target: Path, title: str, report: dict[str, Any], outputs: Sequence[Path] = ()
) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run.

    Parameters
    ----------
    target : the images.
    title : of the method.
    outputs : all that may have been written.
    """
    weights = report.get("regularisation_weights_used")
    residual = report["reliability"]["residual"]["overall"]
    rows = [
        *(row[:2] for row in expected_rows(report)),
        ["data", report["origin"]],
        ["acceleration", acceleration_text(report)],
        *([["pattern", report["pattern"]]] if "pattern" in report else []),
        ["method", title + _weights(weights) + ensemble_label(report)],
        *adaptation_rows(report),
        ["residual at the samples", "not known" if residual is None else f"{residual:.1e}"],
        *(row[:2] for row in reliability_rows(report)),
        *(row[:2] for row in uncertainty_rows(report)),
        ["time", f"{report['seconds']:.1f} s on {report['device']}"],
        *quality_rows(report),
    ]
    if report.get("coils"):
        after = [row[0] for row in rows].index("data") + 1
        rows.insert(after, ["coils", _coils(report["coils"][0])])
    return rows + written_rows(target, outputs)


def _weights(used: Sequence[float] | None) -> str:
    """Weights of a classical method, to follow its name; empty where it has none."""
    if not used or not any(used):
        return ""
    least, most = f"{min(used):.2g}", f"{max(used):.2g}"
    return f", weight {least}" + (f" to {most}" if most != least else "")


def _coils(facts: dict[str, Any]) -> str:
    """Treatment of the coils of a slice in words."""
    parts = [str(facts["coils"])]
    if facts["whitened"]:
        parts.append("noise whitened")
    if "energy_kept" in facts:
        parts.append(f"compressed to {facts['used']} ({100 * facts['energy_kept']:.1f} % of the energy)")
    if "calibration" in facts:
        parts.append(f"ESPIRiT from {' x '.join(map(str, facts['calibration']))} samples")
    elif "maps" in facts:
        parts.append("sensitivities given")
    if facts.get("map_sets", 1) > 1:
        parts.append(f"{facts['map_sets']} sets of maps")
    return ", ".join(parts)


def label_size(label: dict[str, Any], report: dict[str, Any]) -> str:
    """Volume of a label, or its voxels where their size is not known, and its lowest predicted Dice."""
    known = report.get("no_volumes") is None
    sizes, unit = (label["volume_ml"], "ml") if known else (label["voxels"], "voxels")
    least, most = min(sizes), max(sizes)
    text = f"{most:.4g} {unit}" if report["frames"] == 1 else f"{least:.4g} to {most:.4g} {unit} over frames"
    predicted = [dice for dice in label.get("predicted_dice") or () if dice is not None]
    return text if not predicted else f"{text}, predicted Dice {min(predicted):.2f}"


def segmentation_rows(target: Path, report: dict[str, Any], outputs: Sequence[Path] = ()) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run.

    Parameters
    ----------
    target : the labels.
    outputs : all that may have been written.
    """
    slices = report["slices"]
    rows = [
        ["model", f"{report['model']['name']} ({report['model']['licence']})"],
        ["slices", f"{slices['first']} to {slices['last']} of {slices['in_stack']} along {slices['array_axis']}, "
                   f"{slices['plane']}"],
    ]  # fmt: skip
    for label in report["labels"]:
        rows.append([label["name"], label_size(label, report)])
    rows.append(["time", f"{report['seconds']:.1f} s on {report['device']}"])
    several = report["frames"] if isinstance(report.get("output"), list) and report["frames"] > 1 else 0
    if not several or target.is_dir():
        return rows + written_rows(target, outputs)
    first, *others = map(Path, report["output"])
    place = f"{several} files, {first} to {others[-1].name}" if others else str(first)
    beside = written_rows(target, [path for path in outputs if path not in (first, *others)])[1:]
    return [*rows, ["written", place], *beside]
