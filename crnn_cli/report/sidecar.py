"""Sidecar reports: the JSON file beside an output, its name, its format, and reading those of format 1."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.data.input_files import read_small
from crnn_cli.errors import OutputExistsError, Param, UnreadableError, UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import FolderOutput, Output


FORMAT = 2
"""Version of the keys of a report; see docs/reference/report-json.md."""

_RENAMED = {
    "acceleration_in_measured_region": "effective_acceleration",
    "undersampled_axis": "phase_encoding_axis",
    "undersampled_axes": "n_undersampled_axes",
    "noise": "noise_ratio",
    "weight": "regularisation_weight",
    "weights": "regularisation_weights_used",
    "format": "output_format",
}
_RENAMED_OPTIONS = {
    "uneven": "slice_tolerance", "noise": "noise_ratio", "held_out": "hold_out_folds", "weight": "regularisation",
}  # fmt: skip
_MISSING = object()
_LARGEST = 2**24
"""Bytes of a report at most; the largest that are written have some hundred kB."""


def sidecar_path(target: Path) -> Path:
    """Name of the report beside an output: that of the output, with the suffix .json; a report is its own.

    >>> sidecar_path(Path("images.nii.gz")).name, sidecar_path(Path("series")).name
    ('images.json', 'series.json')
    >>> sidecar_path(Path("function.json")).name
    'function.json'
    """
    if target.suffix == ".json":
        return target
    return target.with_name(target.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".dcm") + ".json")


_HEAD = 2**16  # bytes of a report within which the tool is named
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, ZeroDivisionError)
"""Errors that come of a report which lacks something, or has something else in its place."""


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a report, of any format, in the present one; its keys and values are not checked.

    Raises
    ------
    UnreadableError
        If it is missing, no regular file, larger than 16 MiB, or no JSON object.
    """
    if not path.exists():
        raise UnreadableError(
            f"{path} does not exist: a report lies beside the images under this name; was one of both moved?"
        )
    try:
        report = json.loads(read_small(path, _LARGEST))
    except (ValueError, RecursionError):
        raise UnreadableError(f"{path} is not JSON: it is no report of crnn, or was damaged") from None
    if not isinstance(report, dict):
        raise UnreadableError(f"{path} is no report of crnn", remedy=("name a file that crnn wrote",))
    return upgrade_report(report)


CONVERTED_BY = "crnn"
"""What BIDS sidecars of ours name as the software that converted."""


def require_report_writable(target: Path, force: bool) -> None:
    """Refuse an output whose report cannot be written beside it, or would replace a file that is none of ours.

    BIDS keeps the only copy of a scan's parameters in a JSON file of the same name: no option replaces that.

    Raises
    ------
    OutputExistsError
        If a file of that name exists and not ``force``, or it is no report of this program.
    OutputError
        If it cannot be written; see `crnn_cli.io.atomic_write.require_writable`.
    """
    from crnn_cli.io.atomic_write import require_writable

    path = sidecar_path(target)
    if os.path.lexists(path) and not is_ours(path):
        raise OutputExistsError(
            f"{path} exists, and is no report of this program: it is never replaced",
            remedy=("move it away, or give another name with ", Param("out")),
        )
    require_writable(path, force)


def is_ours(path: Path) -> bool:
    """Whether a JSON file says that this program wrote it, be it whole or cut."""
    try:
        content = read_sidecar(path)
    except (UnreadableError, *DAMAGE):
        return _begins_as_ours(path)
    return str(content.get("tool", "")).startswith("crnn ") or content.get("ConversionSoftware") == CONVERTED_BY


def _begins_as_ours(path: Path) -> bool:
    """Whether a file that is no whole JSON begins as our reports do, which name the tool near their beginning."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            return head.startswith(b"{") and re.search(rb'\n  "tool": "crnn [\w.]+",\n', head) is not None
    except OSError:
        return False


def require_apart(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Check that no output falls on an input, and no two outputs on one file.

    Raises
    ------
    UsageError
        If one does.
    """
    read = {os.path.realpath(path) for path in inputs if path not in (None, STREAM)}
    written = [path for path in outputs if path is not None and path != STREAM]
    for path in written:
        if os.path.realpath(path) in read:
            raise UsageError(f"{path} is the input", remedy=("give another name",))
    resolved = [os.path.realpath(path) for path in written]
    for path, real in zip(written, resolved, strict=True):
        if resolved.count(real) > 1:
            raise UsageError(f"{path} would be written twice", remedy=("give each output a name of its own",))


def report_output(
    target: Path, report: dict[str, Any], others: Sequence[Output | FolderOutput], folder: Path | None = None
) -> Output:  # fmt: skip
    """Prepare a report for writing beside its target; in a batch, with the sha256 of all other outputs.

    Parameters
    ----------
    target : the main output.
    report : its report.
    others : outputs that are written together with it.
    folder : where the main output lies until it is moved, if it is a folder.
    """
    from crnn_cli.io.atomic_write import Output, digest_tree

    if "batch" in report:
        files = [file for each in others for file in each.files()]
        written = {os.path.relpath(each.target, target.parent): each.sha256() for each in files}
        written |= {target.name: digest_tree(folder)} if folder is not None else {}
        written |= {target.name: digest_content(report)} if sidecar_path(target) == target else {}
        report = report | {"batch": report["batch"] | {"outputs": written}}
    return Output(sidecar_path(target), (json.dumps(report, indent=2) + "\n").encode())


def digest_content(report: dict[str, Any]) -> str:
    """SHA-256 of a report without what it says of its batch, where the hash itself stands."""
    content = {key: value for key, value in report.items() if key != "batch"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def upgrade_report(report: dict[str, Any]) -> dict[str, Any]:
    """Bring a report of `crnn reconstruct` or `crnn segment` to the present format; the one handed in is not changed.

    Reports of format 1 had no key ``format``, or one with the format of the output. Keys that they lack are left out.
    """
    if report.get("format") == FORMAT:
        return report
    report = {_RENAMED.get(key, key): value for key, value in report.items()} | {"format": FORMAT}
    if isinstance(report.get("origin"), str):
        report["simulated"] = "SIMULATED" in report["origin"]
    overall = report.pop("residual", _MISSING)
    if "trust" in report:
        report["reliability"] = _upgrade_reliability(report.pop("trust"))
    elif overall is not _MISSING:
        report["reliability"] = {"residual": {"overall": overall}}
    if isinstance(report.get("adapted"), dict):
        renamed = {"for_other_slices": "generalise", "bundle_way": "weight_interpolation"}
        report["adapted"] = _rename(report["adapted"], renamed)
    if isinstance(report.get("input"), dict):
        report["input"] = _rename(report["input"], {"uneven_mm": "slice_tolerance_mm"})
    if isinstance(report.get("batch"), dict) and isinstance(report["batch"].get("options"), dict):
        options = _rename(report["batch"]["options"], _RENAMED_OPTIONS)
        options |= {"generalise": True} if "save_adapted" in options else {}
        report["batch"] = report["batch"] | {"options": options}
    return report


def _upgrade_reliability(trust: Any) -> Any:
    """``trust`` of format 1 with the keys of format 2; as it is, where it is damaged."""
    if not isinstance(trust, dict):
        return trust
    reliability = _rename(trust, {"undetermined": "null_space_energy_fraction", "stand_out": "outlier_frames"})
    frames = reliability.get("outlier_frames")
    if isinstance(frames, list) and all(isinstance(frame, dict) for frame in frames):
        reliability["outlier_frames"] = [_rename(frame, {"times_expected": "ratio_to_expected"}) for frame in frames]
    return reliability


def _rename(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
