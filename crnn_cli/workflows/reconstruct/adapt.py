"""What `crnn reconstruct --adapt` says and writes: the time budget, lines on the way, the report, the bundle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UsageError
from crnn_cli.report.rows import format_progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from crnn_cli.adaptation.adapt import AdaptProgress, AdaptResult
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.reconstruction.measurement import SliceSource
    from crnn_cli.reconstruction.reconstruct import Reconstructor
    from crnn_cli.workflows.reconstruct.methods import PreparedMethod
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions

DEFAULT, DEFAULT_SECONDS = "auto", 180.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LEAST, _MOST = 1.0, 86400.0
_EXAMPLE = "give a time, such as 3m or 90s, or auto for 3m"
_SAID = "Tuned to one scan"


@dataclass(frozen=True)
class AdaptBudget:
    """How long a network is to be tuned; one of both is None. elsewhere : for other slices too, to be saved."""

    seconds: float | None
    steps: int | None
    elsewhere: bool = False


def parse_budget(adapt: str | None, steps: int | None, save: Path | None) -> AdaptBudget | None:
    """Return what the options ask for; None where the network is to be used as it is.

    Raises
    ------
    UsageError
        If the time has no unit, is not from 1 s to a day, or the options exclude each other.
    """
    if adapt is None and steps is None:
        if save is not None:
            raise UsageError("--save-adapted writes what --adapt makes: give --adapt 3m, or --adapt-steps")
        return None
    if adapt is not None and steps is not None:
        raise UsageError("--adapt is a time and --adapt-steps a number of steps: use one of them")
    return AdaptBudget(None if adapt is None else _seconds(adapt), steps, save is not None)


def plan_adaptation(options: ReconstructOptions) -> AdaptBudget | None:
    """Return how long to tune, after checking that it can be done and where the result goes."""
    from crnn_cli.bundles.store import is_bundle_alone, require_new
    from crnn_cli.workflows.reconstruct.methods import NETWORK

    budget, folder = parse_budget(options.adapt, options.adapt_steps, options.save_adapted), options.save_adapted
    if budget is not None and options.method != NETWORK:
        raise UsageError(f"--adapt tunes a network: it belongs to --method {NETWORK}, not to {options.method}")
    if budget is not None and options.iterations == 0:
        raise UsageError("--adapt tunes a network, and with --iterations 0 none is used")
    if folder is not None:
        require_new(_fresh(folder) if options.force and is_bundle_alone(folder) else folder)
    return budget


def _seconds(said: str) -> float:
    if said.strip().lower() == DEFAULT:
        return DEFAULT_SECONDS
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([smh])", said.strip().lower())
    if found is None:
        raise UsageError(f"--adapt {said}: {_EXAMPLE}")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not _LEAST <= seconds <= _MOST:
        raise UsageError(f"--adapt {said} is not from 1 s to 24 h: {_EXAMPLE}")
    return seconds


def tune_to_scan(
    chosen: PreparedMethod, slices: SliceSource, place: torch.device, budget: AdaptBudget, seed: int, copies: int,
    progress: notices.Progress,
) -> tuple[PreparedMethod, list[Tensor | None]]:  # fmt: skip
    """Return the method with its network tuned to a scan, and what it never saw; see `assessment.reliability.AssessedReconstructor`.

    copies : of the ensemble that it is for.
    """
    from crnn_cli.adaptation.adapt import AdaptSettings, adapt
    from crnn_cli.compute.device import bfloat16_is_fast
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

    assert isinstance(chosen.method, NetworkReconstructor)
    half = bfloat16_is_fast(place) if chosen.precision is None else chosen.precision == "bf16"
    tuning = AdaptSettings(budget.seconds, budget.steps, seed, half, copies, budget.elsewhere)

    def tell(told: AdaptProgress) -> None:
        if told.steps:
            progress(told.step, told.steps)
        if told.validated:
            notices.note(format_progress(told))

    method, found = adapt(slices, chosen.method, tuning, place, tell)
    facts = {"adapted": adaptation_facts(found, tuning)}
    if not found.used:
        notices.warn(f"the network was not tuned to this scan, and is used as it is: {found.why}")
    elif found.why == "interrupted":
        notices.warn(f"interrupted: going on with the best so far, of step {found.best_step}; once more ends it all")
    unseen = list(found.validation.values()) if found.used else []
    return replace(chosen, method=method, facts=chosen.facts | facts), unseen


def adaptation_facts(found: AdaptResult, tuning: Any) -> dict[str, Any]:
    """Return what the report says."""
    import math

    def digits(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

    return {
        "steps": found.steps, "best_step": found.best_step, "seconds": round(found.seconds, 2),
        "validation_residual": {"before": digits(found.before), "after": digits(found.after)},
        "used": found.used, "why": found.why, "seed": tuning.seed, "columns": found.columns,
        "precision": "bf16" if tuning.half else "fp32", "for_other_slices": tuning.elsewhere,
    }  # fmt: skip


def write_adapted(folder: Path, model: str | None, method: Reconstructor, report: dict[str, Any], force: bool) -> None:
    """Write the network as a bundle, with a card that says what it came from; the report then names it.

    Its weights are not the tuned ones, but some way towards them: see `crnn_cli.adaptation.adapt.GENERALISE_ALPHA`.

    force : replace a bundle.
    """
    import shutil

    import torch
    from torch import nn

    from crnn_cli.adaptation.adapt import GENERALISE_ALPHA, interpolate_weights
    from crnn_cli.bundles.store import CARD, find_bundle, is_bundle_alone, load_reconstruction, write_bundle
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

    source = find_bundle(model, "reconstruct")
    assert isinstance(method, NetworkReconstructor)
    assert isinstance(method.network, nn.Module)
    weights = interpolate_weights(load_reconstruction(source, torch.device("cpu")), method.network)
    summary = source.summary if source.summary.startswith(_SAID) else f"{_SAID}: {source.summary}"
    config = {
        "task": source.task, "network": source.network, "settings": source.settings, "licence": source.licence,
        "summary": summary, "initial_image": source.initial_image, "input_rms": source.input_rms,
    }  # fmt: skip
    if source.uncertainty_scale is not None:
        config["uncertainty"] = {"scale": source.uncertainty_scale}
    earlier = (source.folder / CARD).read_text(encoding="utf-8") if (source.folder / CARD).is_file() else ""
    report["adapted"] |= {"bundle": str(folder), "bundle_way": GENERALISE_ALPHA}
    card = _card(folder.name, source, report, earlier)
    replaced = force and is_bundle_alone(folder)
    fresh = _fresh(folder) if replaced else folder
    written = write_bundle(fresh, config, weights, card)
    if replaced:
        shutil.rmtree(folder)
        fresh.rename(folder)
    report["adapted"] |= {"bundle_sha256": written.sha256}


def _fresh(folder: Path) -> Path:
    """Return where the bundle is written that replaces one."""
    return folder.with_name(f".{folder.name}.new")


def _card(name: str, source: Bundle, report: dict[str, Any], earlier: str) -> str:
    found, scan = report["adapted"], report["input"]
    residual = found["validation_residual"]
    said = "These are the weights of the source, unchanged" if not found["used"] else "Tuned"
    parts = [
        f"# {name}", "", f"{_SAID} by `crnn reconstruct --adapt`, from the bundle {source.name}.", "",
        "**Not for diagnostic use.** It is meant for that scan, or for scans like it; nobody has assessed it.", "",
        f"* Licence of the weights: {source.licence}",
        f"* Source: {source.name}, sha256 {source.sha256}",
        f"* Scan: {Path(str(scan['file'])).name}, sha256 {scan['sha256']}",
        f"* {said}: {found['steps']} steps in {found['seconds']:.0f} s, seed {found['seed']}, {found['precision']}; "
        f"step {found['best_step']} made the images ({found['why']})",
        f"* Weights: {found['bundle_way']:g} of the way from those of the source to those, as they are for other "
        "slices and scans than the one tuned to, which gain less all the way; for their sake the images that were "
        "rehearsed were flipped, too",
        f"* Residual at lines never tuned on: {json.dumps(residual['before'])} before, "
        f"{json.dumps(residual['after'])} of the weights that made the images",
        f"* Made with: {report['tool']}, {', '.join(f'{k} {v}' for k, v in report['versions'].items())}",
        "", "## Settings of the command", "", f"`{' '.join(report['command'])}`", "",
    ]  # fmt: skip
    if earlier:
        quoted = [f"> {line}".rstrip() for line in earlier.splitlines()]
        parts += ["## Card of the source", "", *quoted, ""]
    return "\n".join(parts)
