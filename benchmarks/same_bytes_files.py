"""Outputs of two runs of crnn compared for ``same_bytes.py``: all that is computed, nothing that is only said.

Compared are the files whose suffix is in ``READERS``. Of each only what was computed counts: of NIfTI the data and
the header without ``descrip``; of DICOM pixels, numbers and codes without dates, new UIDs and free text; of weights the
tensors; of ``.figures`` (what a command printed as JSON) the numbers, wherever they stand. Pictures are told apart.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image, ImageSequence

Parts = dict[str, Any]  # what counts of a file, by a name for the report
SOURCE_UIDS = {  # UIDs that name what was there before
    "SOPClassUID", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
}  # fmt: skip
EXACT_TEXTS = {
    "PatientID", "StudyID", "AccessionNumber", "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "SegmentLabel",
    "RescaleType", "PositionReferenceIndicator",
}  # fmt: skip
UNSAID_VRS = {"UI", "DA", "TM", "DT", "LO", "LT", "SH", "ST", "UT", "UC", "UR"}
LEFT_OUT = (".run",)  # folders of training runs: their layout is no result


@dataclasses.dataclass
class Comparison:
    """What two folders have in common, and what not."""

    files: int = 0  # compared, pictures not counted
    picture_files: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)
    pictures: list[str] = dataclasses.field(default_factory=list)  # pictures that differ


def compare_folders(before: Path, after: Path, new: tuple[str, ...] = ()) -> Comparison:
    """Compare all outputs in two folders, by name, but not the DICOM elements that are made anew each time."""
    comparison = Comparison()
    names = {name: None for folder in (before, after) for name in sorted(outputs(folder))}
    for name in names:
        is_picture = suffix(name) in PICTURES
        problem = compare_files(before / name, after / name, new)
        comparison.files += not is_picture
        comparison.picture_files += is_picture
        if problem:
            (comparison.pictures if is_picture else comparison.differences).append(f"{name}: {problem}")
    return comparison


def outputs(folder: Path) -> Iterator[str]:
    """Yield the names of files that can be compared; links are not followed."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(LEFT_OUT)]
        for file in files:
            if suffix(file) in READERS and not Path(path, file).is_symlink():
                yield str(Path(path, file).relative_to(folder))


def suffix(name: str) -> str:
    """Find the suffix, that of a compressed NIfTI file being one."""
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix.lower()


def compare_files(before: Path, after: Path, new: tuple[str, ...] = ()) -> str:
    """Say how two files differ; empty: not at all."""
    missing = [side for side, file in (("before", before), ("after", after)) if not file.is_file()]
    if missing:
        return f"not there {missing[0]}"
    first, second = before.read_bytes(), after.read_bytes()
    if first == second:
        return ""
    kind = suffix(before.name)
    try:
        parts = [READERS[kind](content) for content in (first, second)]
        parts = [{name: value for name, value in of_file.items() if name not in new} for of_file in parts]
    except Exception as error:
        return f"unreadable: {error}"
    return compare_figures(*parts) if kind == ".figures" else compare_parts(*parts)


def compare_parts(before: Parts, after: Parts) -> str:
    """Say which parts differ, and by how much where they are arrays."""
    problems = [f"no {name} any more" for name in before if name not in after]
    problems += [f"{name} is new" for name in after if name not in before]
    for name in before.keys() & after.keys():
        first, second = before[name], after[name]
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            if first.dtype != second.dtype or first.shape != second.shape:
                problems.append(f"{name}: {first.dtype} {first.shape} became {second.dtype} {second.shape}")
            elif first.tobytes() != second.tobytes():
                problems.append(f"{name}: {describe_change(first, second)}")
        elif first != second:
            problems.append(f"{name}: {str(first)[:60]} became {str(second)[:60]}")
    return ", ".join(sorted(problems)[:4]) + (f" and {len(problems) - 4} more" if len(problems) > 4 else "")


def describe_change(before: np.ndarray, after: np.ndarray) -> str:
    """Say how many values of two arrays differ, and by how much at most."""
    if before.dtype.names:
        return "differs"
    changed = np.count_nonzero((before != after) & ~((before != before) & (after != after)))
    with np.errstate(all="ignore"):
        largest = np.nanmax(np.abs(after.astype(np.complex128) - before.astype(np.complex128)), initial=0.0)
        scale = np.nanmax(np.abs(before.astype(np.complex128)), initial=0.0)
    return f"{changed} of {before.size} values differ, by up to {largest:.3g} (largest value {scale:.3g})"


def compare_figures(before: Parts, after: Parts) -> str:
    """Say which numbers are gone; more of them are no difference."""
    gone = Counter(before["numbers"]) - Counter(after["numbers"])
    return f"numbers are gone: {', '.join(map(str, list(gone)[:4]))}" if gone else ""


def read_nifti(content: bytes) -> Parts:
    raw = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    kind = nib.Nifti2Image if int.from_bytes(raw[:4], "little") == 540 else nib.Nifti1Image
    header = kind.header_class.from_fileobj(io.BytesIO(raw))  # an image's own header has forgotten the offset
    fields = {name: header.structarr[name].tobytes() for name in header.structarr.dtype.names if name != "descrip"}
    start = int(header["vox_offset"])
    dtype = header.get_data_dtype()
    count = int(np.prod(header.get_data_shape()))
    fields["data"] = np.frombuffer(raw, dtype, count, start).reshape(header.get_data_shape(), order="F")
    fields["extensions"] = raw[header.sizeof_hdr : start]
    fields["behind the data"] = raw[start + count * dtype.itemsize :]
    return fields


def read_dicom(content: bytes) -> Parts:
    dataset = pydicom.dcmread(io.BytesIO(content))
    parts: Parts = {"TransferSyntaxUID": str(dataset.file_meta.TransferSyntaxUID)}
    _collect(dataset, "", parts)
    if "PixelData" in dataset:
        parts["PixelData"] = dataset.pixel_array
    return parts


def _collect(dataset: pydicom.Dataset, prefix: str, parts: Parts) -> None:
    """Add the elements of a data set that are computed or handed on."""
    for element in dataset:
        name = prefix + (element.keyword or str(element.tag))
        if element.VR == "SQ":
            parts[f"{name} items"] = len(element.value)
            for number, item in enumerate(element.value):
                _collect(item, f"{name}[{number}].", parts)
        elif element.VR not in UNSAID_VRS or element.keyword in SOURCE_UIDS | EXACT_TEXTS:
            parts[name] = element.value if isinstance(element.value, bytes) else repr(element.value)


def read_npy(content: bytes) -> Parts:
    return {"bytes": np.frombuffer(content, np.uint8)}


def read_safetensors(content: bytes) -> Parts:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    parts: Parts = {}
    for name, tensor in header.items():
        start, end = (8 + size + offset for offset in tensor["data_offsets"])
        parts[f"{name}, type"] = (tensor["dtype"], tensor["shape"])
        parts[name] = np.frombuffer(content[start:end], np.uint8)
    return parts


def same_tensors(first: Path, second: Path) -> bool:
    """Find whether two files of weights hold the same bytes under the same names."""
    return not compare_parts(*(read_safetensors(file.read_bytes()) for file in (first, second)))


def read_text(content: bytes) -> Parts:
    return {f"line {number}": line for number, line in enumerate(content.decode().split("\n"), 1)}


def read_figures(content: bytes) -> Parts:
    return {"numbers": list(_numbers(json.loads(content)))}


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers in JSON, but not those of time taken and of the format."""
    if isinstance(value, dict):
        for key, part in value.items():
            if "second" not in key and key not in ("format", "format_version"):
                yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def read_picture(content: bytes) -> Parts:
    with Image.open(io.BytesIO(content)) as picture:
        frames = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(picture)]
    return {"pixels": np.stack(frames)}


READERS: dict[str, Callable[[bytes], Parts]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".dcm": read_dicom,
    ".npy": read_npy,
    ".cfl": read_npy,
    ".safetensors": read_safetensors,
    ".csv": read_text,
    ".figures": read_figures,
    ".png": read_picture,
    ".gif": read_picture,
}
PICTURES = (".png", ".gif")
