"""Scan-specific fine-tuning as part of a reconstruction: budget, progress, report, saved bundle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.report.rows import format_progress
from crnn_cli.workflows.reconstruct.interrupt import Interruptible, no_interrupt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from crnn_cli.adaptation.adapt import AdaptProgress, AdaptResult, AdaptSettings
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.reconstruction.measurement import SliceSource
    from crnn_cli.reconstruction.reconstruct import Reconstructor
    from crnn_cli.workflows.reconstruct.methods import PreparedMethod
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions

DEFAULT, DEFAULT_SECONDS = "auto", 180.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LEAST, _MOST = 1.0, 86400.0
_EXAMPLE = "give a time, such as 3m or 90s, or auto for 3m"
_SUMMARY = "Tuned to one scan"


@dataclass(frozen=True)
class AdaptBudget:
    """Budget of a fine-tuning: a time or a number of steps; the other one is None.

    ``generalise`` tunes for other slices and scans too; see `crnn_cli.adaptation.adapt.AdaptSettings`.
    """

    seconds: float | None
    steps: int | None
    generalise: bool = False


def parse_budget(
    adapt: str | None, steps: int | None, save: Path | None = None, generalise: bool = False
) -> AdaptBudget | None:
    """Read the budget from the options; None where the network is used as it is.

    Parameters
    ----------
    adapt : a time from 1 s to a day with its unit, such as 90s, 3m or 0.5h; or ``auto`` for 3 minutes.
    steps : a number of steps instead.
    save : folder of the bundle that the tuned network is saved in.
    generalise : tune for other slices too.

    Raises
    ------
    UsageError
        If the time has no unit or is out of range, or the options exclude each other.

    >>> parse_budget("90s", None), parse_budget(None, 20, generalise=True)
    (AdaptBudget(seconds=90.0, steps=None, generalise=False), AdaptBudget(seconds=None, steps=20, generalise=True))
    """
    if adapt is None and steps is None:
        remedy = ("give ", Param("adapt", "3m"), ", or ", Param("adapt_steps"))
        if save is not None:
            raise UsageError(Param("save_adapted"), " writes what ", Param("adapt"), " makes", remedy=remedy)
        if generalise:
            raise UsageError(Param("generalise"), " says what ", Param("adapt"), " tunes for", remedy=remedy)
        return None
    if adapt is not None and steps is not None:
        both = " is a time and ", Param("adapt_steps"), " a number of steps"
        raise UsageError(Param("adapt"), *both, remedy=("use one of them",))
    return AdaptBudget(None if adapt is None else _parse_seconds(adapt), steps, generalise)


def plan_adaptation(options: ReconstructOptions) -> AdaptBudget | None:
    """Read the budget; check that the method can be tuned, and that its bundle can be saved.

    Raises
    ------
    UsageError
        If the method is no network, or the options exclude each other.
    OutputError
        If the bundle cannot be written.
    """
    from crnn_cli.bundles.store import require_new
    from crnn_cli.workflows.reconstruct.methods import NETWORK

    folder = options.save_adapted
    budget = parse_budget(options.adapt, options.adapt_steps, folder, options.generalise)
    if budget is not None and options.method != NETWORK:
        method = Param("method", NETWORK)
        raise UsageError(
            Param("adapt"), " tunes a network: it belongs to ", method, f", not to {options.method}"
        )  # fmt: skip
    if budget is not None and options.iterations == 0:
        raise UsageError(Param("adapt"), " tunes a network, and with ", Param("iterations", 0), " none is used")
    if folder is not None:
        require_new(folder, options.force)
    return budget


def _parse_seconds(text: str) -> float:
    if text.strip().lower() == DEFAULT:
        return DEFAULT_SECONDS
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([smh])", text.strip().lower())
    if match is None:
        raise UsageError(Param("adapt", text), " is no time", remedy=(_EXAMPLE,))
    seconds = float(match[1]) * _UNITS[match[2]]
    if not _LEAST <= seconds <= _MOST:
        raise UsageError(Param("adapt", text), " is not from 1 s to 24 h", remedy=(_EXAMPLE,))
    return seconds


def tune_to_scan(
    method: PreparedMethod, slices: SliceSource, device: torch.device, budget: AdaptBudget, seed: int,
    progress: notices.Progress, interruptible: Interruptible = no_interrupt,
) -> tuple[PreparedMethod, dict[int, Tensor | None]]:  # fmt: skip
    """Fine-tune the network of a method to a scan.

    The tuned method comes with the masks of the lines that it never saw, by slice
    (`crnn_cli.reconstruction.measurement.ValidationSource`): no masks where the original weights stay in use.

    Parameters
    ----------
    method : a network.
    slices : the measured data.
    device : where it is tuned.
    budget : how long.
    seed : of lines and patches.
    progress : called with (steps done, steps in all).
    interruptible : how the tuning can be ended early.
    """
    from crnn_cli.adaptation.adapt import AdaptSettings, adapt
    from crnn_cli.compute.device import has_native_bfloat16
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

    assert isinstance(method.method, NetworkReconstructor)
    bfloat16 = has_native_bfloat16(device) if method.precision is None else method.precision == "bf16"
    settings = AdaptSettings(budget.seconds, budget.steps, seed, bfloat16, method.copies, budget.generalise)

    def on_progress(state: AdaptProgress) -> None:
        if state.steps:
            progress(state.step, state.steps)
        if state.validated:
            notices.say(format_progress(state))

    with interruptible() as stop:
        tuned, result = adapt(slices, method.method, settings, device, on_progress, stop)
    facts = {"adapted": adaptation_facts(result, settings)}
    if not result.used:
        text = f"the network was not tuned to this scan, and is used as it is: {result.why}"
        notices.note("not-adapted", text)
    elif result.interrupted:
        notices.say(f"interrupted: going on with the best so far, of step {result.best_step}; once more ends it all")
    return replace(
        method, method=tuned, facts=method.facts | facts, psnr_law=None
    ), result.validation if result.used else {}


def adaptation_facts(result: AdaptResult, settings: AdaptSettings) -> dict[str, Any]:
    """Facts about a fine-tuning for the report, its key ``adapted``; residuals have six digits."""
    import math

    def digits(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

    return {
        "steps": result.steps, "best_step": result.best_step, "seconds": round(result.seconds, 2),
        "validation_residual": {"before": digits(result.before), "after": digits(result.after)},
        "used": result.used, "why": result.why, "seed": settings.seed, "columns": result.columns,
        "precision": "bf16" if settings.bfloat16 else "fp32", "generalise": settings.generalise,
    }  # fmt: skip


def write_adapted(
    folder: Path, model: str | None, method: Reconstructor[None], report: dict[str, Any], force: bool
) -> dict[str, Any]:
    """Write the tuned network as a bundle, with a model card that names source, scan and settings.

    Of a network tuned with ``generalise`` the weights are interpolated between original and tuned ones
    (`crnn_cli.adaptation.adapt.GENERALISE_ALPHA`); else they are the tuned ones. The key ``adapted`` of the report
    comes back with the bundle, its sha256 and the interpolation factor.

    Parameters
    ----------
    folder : of the bundle.
    model : the bundle that was tuned, by name or folder; None for the default.
    method : the reconstructor with the tuned network.
    report : of the reconstruction, with the key ``adapted``.
    force : replace a bundle.
    """
    import torch
    from torch import nn

    from crnn_cli.adaptation.adapt import GENERALISE_ALPHA, interpolate_weights
    from crnn_cli.bundles.store import CARD, find_bundle, load_reconstruction, write_bundle
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

    source = find_bundle(model, "reconstruct")
    assert isinstance(method, NetworkReconstructor)
    assert isinstance(method.network, nn.Module)
    alpha = GENERALISE_ALPHA if report["adapted"]["generalise"] else 1.0
    weights = interpolate_weights(load_reconstruction(source, torch.device("cpu")), method.network, alpha)
    summary = source.summary if source.summary.startswith(_SUMMARY) else f"{_SUMMARY}: {source.summary}"
    config = {
        "task": source.task, "network": source.network, "settings": source.settings, "licence": source.licence,
        "summary": summary, "initial_image": source.initial_image, "input_rms": source.input_rms,
    }  # fmt: skip
    if source.uncertainty_scale is not None:
        config["uncertainty"] = {"scale": source.uncertainty_scale}
    earlier = (source.folder / CARD).read_text(encoding="utf-8") if (source.folder / CARD).is_file() else ""
    facts: dict[str, Any] = report["adapted"] | {"bundle": str(folder), "weight_interpolation": alpha}
    card = _model_card(folder.name, source, report | {"adapted": facts}, earlier)
    written = write_bundle(folder, config, weights, card, replace=force)
    return facts | {"bundle_sha256": written.sha256}


def _model_card(name: str, source: Bundle, report: dict[str, Any], earlier: str) -> str:
    adapted, scan = report["adapted"], report["input"]
    residual, alpha = adapted["validation_residual"], adapted["weight_interpolation"]
    tuned = "Tuned" if adapted["used"] else "These are the weights of the source, unchanged"
    weights = f"{1 - alpha:g} original + {alpha:g} tuned: better on other slices and scans, slightly worse on this one"
    parts = [
        f"# {name}", "", f"{_SUMMARY} by `crnn reconstruct --adapt`, from the bundle {source.name}.", "",
        "**Not for diagnostic use.** It is meant for that scan, or for scans like it; nobody has assessed it.", "",
        f"* Licence of the weights: {source.licence}",
        f"* Source: {source.name}, sha256 {source.sha256}",
        f"* Scan: {Path(str(scan['file'])).name}, sha256 {scan['sha256']}",
        f"* {tuned}: {adapted['steps']} steps in {adapted['seconds']:.0f} s, seed {adapted['seed']}, "
        f"{adapted['precision']}; step {adapted['best_step']} made the images ({adapted['why']})",
        f"* Weights: {weights if adapted['generalise'] else 'as tuned, those that made the images'}",
        f"* Residual at lines never tuned on: {json.dumps(residual['before'])} before, "
        f"{json.dumps(residual['after'])} of the weights that made the images",
        f"* Made with: {report['tool']}, {', '.join(f'{k} {v}' for k, v in report['versions'].items())}",
        "", "## Settings of the command", "", f"`{' '.join(report['command'])}`", "",
    ]  # fmt: skip
    if earlier:
        quoted = [f"> {line}".rstrip() for line in earlier.splitlines()]
        parts += ["## Card of the source", "", *quoted, ""]
    return "\n".join(parts)
