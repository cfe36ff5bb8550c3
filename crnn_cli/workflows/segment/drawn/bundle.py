"""Bundle of a network that was tuned to the drawn slices of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_cli.bundles.config import Bundle
    from crnn_cli.workflows.segment.drawn.result import DrawnResult


def write_adapted(folder: Path, result: DrawnResult, report: dict[str, Any], force: bool) -> dict[str, Any]:
    """Write a tuned network as a bundle, with a card that names source, scan and settings.

    Where the tuning was not used the weights are those of the source, and the card says so.

    Curves and figures of the source are left out: they were not measured of the tuned network.

    Returns
    -------
    Facts for the report: the folder, and the sha256 of the weights.
    """
    from crnn_cli.bundles.config import read_config
    from crnn_cli.bundles.store import write_bundle

    source = result.engine.bundle
    tuned = None if result.tuning is None else result.tuning.network
    network = tuned or result.engine.network
    assert source is not None and network is not None  # noqa: PT018 the caller has looked
    left_out = ("format", "sha256", "quality", "measured")
    config = {key: value for key, value in read_config(source.folder).items() if key not in left_out}
    config |= {"summary": f"{source.name}, tuned to the drawn slices of one scan"}
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    written = write_bundle(folder, config, weights, _card(folder.name, source, report), replace=force)
    return {"bundle": str(folder), "bundle_sha256": written.sha256}


def _card(name: str, source: Bundle, report: dict[str, Any]) -> str:
    tuning, scan = report["drawn"]["tuning"], report["input"]
    judged = tuning["left_out_dice"]
    used = "the weights are those of the source"
    if tuning["used"]:
        better = [label["name"] for label in report["labels"] if label["tuned"]["used"]]
        used = f"step {tuning['best_step']} is used; better for {', '.join(better)}"
    dice = (
        "not judged: two slices were drawn" if judged is None else f"{judged['before']} before, {judged['after']} after"
    )
    return "\n".join([
        f"# {name}", "", f"Tuned to the drawn slices of one scan by `crnn segment`, from the bundle {source.name}.", "",
        "**Not for diagnostic use.** It is meant for that scan, or for scans like it; nobody has assessed it.", "",
        f"* Licence of the weights: {source.licence}",
        f"* Source: {source.name}, sha256 {source.sha256}",
        f"* Scan: {Path(str(scan.get('file', 'in memory'))).name}, sha256 {scan.get('sha256', 'not known')}",
        f"* Tuned: {tuning['steps']} steps in {tuning['seconds']:.0f} s, seed {tuning['seed']}; {used} "
        f"({tuning['why']})",
        f"* Dice of drawn slices that were left out: {dice}",
        f"* Made with: {report['tool']}, {', '.join(f'{k} {v}' for k, v in report['versions'].items())}", "",
    ])  # fmt: skip
