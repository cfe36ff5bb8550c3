"""NIfTI files and streams to images and back, through nibabel.

A NIfTI-1 or NIfTI-2 file is a header and an array x, y, z, t, often compressed with gzip. Lengths are in mm, times in
s, the frame time is pixdim[4]. The qform, the sform and their codes are kept. Voxels become float32 or complex64,
scaled by scl_slope and scl_inter. Nothing is guessed: any other file is refused with the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.data.input_files import require_file, standard_input
from crnn_cli.data.mapped_arrays import is_large
from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import Output, require_writable, write_together
from crnn_cli.io.formats import NIFTI, require_output_name
from crnn_cli.io.limits import HEAD, gunzip, most_bytes, read_at_most, require_memory
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.io.nifti.header import (
    NiftiHeader,
    header_of,
    image_from_stored,
    in_own_precision,
    is_scaled,
    line_of,
    name_of,
    parse_header,
    promised_bytes,
    to_single_precision,
)
from crnn_cli.io.nifti.intent import LABELS, intent_code
from crnn_cli.io.nifti.label_names import names_extension, origin_extension
from crnn_cli.io.nifti.streaming import encode_large, read_large, same_values
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import Label
from crnn_cli.labels.overlap import as_labels, holds_few_labels
from crnn_cli.notices import STREAM, Doubt, Remark

SUFFIXES = NIFTI.suffixes
_GZIP_MAGIC = b"\x1f\x8b"
_STORED_AS = {"b1": np.uint8, "f2": np.float32}
"""Types that NIfTI lacks, and those that hold their values."""


def load_nifti(path: Path, axes: str | None = None, keep_type: bool = False) -> LoadedImage:
    """Read a NIfTI file, or ``-`` for standard input, with its sha256 and intent code.

    A large file is not loaded: its voxels stay where they are, or go to a file of their own; see
    `crnn_cli.io.nifti.streaming.read_large`.

    Parameters
    ----------
    axes, keep_type : names of the stored axes, and whether to keep their type, as in `decode_image`.

    Raises
    ------
    CrnnError
        See `read_bytes` and `decode_image`.
    """
    large = read_large(path, axes, keep_type)
    if large is not None:
        image, header, head, sha256 = large
        source = {"file": str(path), "sha256": sha256}
        return _loaded(image, source, header, intent_code(head), header.remarks)
    content = read_bytes(path)
    raw, remarks = _opened(content, path)  # once for both
    image, header = decode_image(raw, path, axes, keep_type), decode_header(raw, path)
    source = {"file": str(path), "sha256": hashlib.sha256(content).hexdigest()}
    return _loaded(image, source, header, intent_code(raw), (*remarks, *header.remarks))


def _loaded(
    image: Image, source: dict[str, str], header: NiftiHeader, intent: int, remarks: tuple[Remark, ...]
) -> LoadedImage:
    if intent == LABELS and header.labels and holds_few_labels(image.array):
        array = as_labels(image.array, source["file"])
        image = LabelImage.on_grid(image, array, header.labels, header.origin)
    return LoadedImage(
        image, source, len(header.shape), dtype=header.dtype, intent=intent, format=NIFTI.name, scale=header.scale,
        notes=remarks,
    )  # fmt: skip


def read_bytes(source: Path) -> bytes:
    """Read the whole content of a file, or of standard input for ``-``.

    Raises
    ------
    UnreadableError
        If it is missing, a folder, not permitted, or empty.
    """
    content = _bounded(standard_input("a NIfTI file"), source) if source == STREAM else _file_content(source)
    if not content:
        raise UnreadableError(f"{name_of(source)} is empty (0 bytes)")
    return content


def _file_content(source: Path) -> bytes:
    require_file(source)
    try:
        with source.open("rb") as stream:
            return _bounded(stream, source)
    except FileNotFoundError:
        raise UnreadableError(f"{source} does not exist") from None
    except IsADirectoryError:
        raise UnreadableError(f"{source} is a folder; name a NIfTI file in it") from None
    except OSError as error:
        raise UnreadableError(f"{source} cannot be read: {error.strerror}") from None


def _bounded(stream: BinaryIO, source: Path) -> bytes:
    """Content of a stream, as much as the header at its start allows; the start alone where it is no header."""
    head = stream.read(HEAD)
    promised = promised_bytes(_unpacked_start(head))
    if len(head) < HEAD or not promised:
        return head
    require_memory(promised, name_of(source))
    return head + read_at_most(stream, most_bytes(promised), name_of(source))


def _unpacked_start(head: bytes) -> bytes:
    """Beginning of a file without gzip; empty where it is damaged."""
    if head[:2] != _GZIP_MAGIC:
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
    except zlib.error:
        return b""


def decode_header(content: bytes, source: Path) -> NiftiHeader:
    """Decode the header in the bytes of a NIfTI file, gzip-compressed or not.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        See `crnn_cli.io.nifti.header.parse_header` and `header_of`.
    """
    return header_of(parse_header(decompressed(content, source), source), source)


def decode_image(content: bytes, source: Path, axes: str | None = None, keep_type: bool = False) -> Image:
    """Decode the bytes of a NIfTI file to an image, float32 or complex64 unless ``keep_type``.

    Parameters
    ----------
    content : the whole file, gzip-compressed or not; by content, not by suffix.
    source : its name, for messages.
    axes : names of the stored axes, such as ``x,y,t``; None for the standard x,y,z(,t).
    keep_type : keep integers and doubles as they are stored; see `crnn_cli.io.nifti.header.in_own_precision`.

    Raises
    ------
    UnreadableError
        If it is not NIfTI, or truncated.
    UnsupportedDataError
        If the voxels are RGB, there are more than four axes, or ``axes`` does not fit.
    """
    raw = decompressed(content, source)
    nifti = parse_header(raw, source)
    header = header_of(nifti, source)
    needed = int(nifti.dataobj.offset) + math.prod(header.shape) * nifti.get_data_dtype().itemsize
    if needed > len(raw):
        raise UnreadableError(
            f"{name_of(source)} is truncated: its header promises {needed} bytes, the file has {len(raw)}"
        )
    if nifti.get_data_dtype().fields is not None:
        raise UnsupportedDataError(f"{name_of(source)} holds RGB colours, not measured values")
    try:
        array = np.asanyarray(nifti.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{name_of(source)} is truncated or damaged: {line_of(error)}") from None
    values = in_own_precision(array, is_scaled(nifti)) if keep_type else to_single_precision(array, source)
    return image_from_stored(values, header, axes, source)


def read_image(source: Path, axes: str | None = None) -> Image:
    """Read a NIfTI file, or ``-`` for standard input; see `decode_image`."""
    return decode_image(read_bytes(source), source, axes)


def encode_image(
    image: Image, target: Path, description: str, intent: str = "none", labels: Sequence[Label] = ()
) -> bytes:
    """Encode an image as NIfTI-1, gzip-compressed if the name ends in .gz; the same image gives the same bytes.

    Parameters
    ----------
    description : of the header field ``descrip``, cut to 79 bytes.
    intent : name of a NIfTI intent, such as ``label``.
    labels : names that go into the file, see `crnn_cli.io.nifti.label_names`.

    Raises
    ------
    UsageError
        If the name ends in neither .nii nor .nii.gz.
    """
    require_output_name(target, NIFTI)
    raw: bytes = as_nifti(image, image.array, description, intent, labels).to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0) if target.name.endswith(".gz") else raw


def as_nifti(image: Image, array: Array, description: str, intent: str, labels: Sequence[Label] = ()) -> Any:
    """Make a nibabel image of an array, with the affines, codes and frame time of an `Image`.

    Codes of 0 and 0 say that the position is unknown: what counts is the voxel size alone.
    """
    array = array.astype(_STORED_AS.get(array.dtype.str[1:], array.dtype), copy=False)
    nifti = nib.Nifti1Image(array, image.affine, dtype=array.dtype)
    _set_codes(nifti, image, image.codes)
    placed = image.codes != (0, 0)
    if placed and not np.allclose(nifti.header.get_best_affine(), image.affine, atol=1e-4, rtol=1e-6):
        _set_codes(nifti, image, (1, 1))  # a qform alone would lose a sheared affine
    if image.pixdim is not None:
        nifti.header["pixdim"][1:4] = image.pixdim
    nifti.header.set_xyzt_units("mm", "sec" if image.frame_time or not image.unitless_frame_step else "unknown")
    if image.array.ndim == 4:
        nifti.header["pixdim"][4] = image.frame_time or image.unitless_frame_step
    nifti.header["descrip"] = description.encode()[:79]
    nifti.header.set_intent(intent)
    if labels:
        nifti.header.extensions.append(names_extension(labels))
        if isinstance(image, LabelImage) and image.origin is not None:
            nifti.header.extensions.append(origin_extension(image.origin))
    return nifti


def _set_codes(nifti: Any, image: Image, codes: tuple[int, int]) -> None:
    nifti.set_sform(image.affine, code=codes[1])
    nifti.set_qform(image.affine if image.qform is None else image.qform, code=codes[0], strip_shears=True)


def image_output(
    image: Image, target: Path, description: str, intent: str = "none", labels: Sequence[Label] = ()
) -> Output:
    """Prepare the NIfTI file of an image, which is read back and compared before it is moved into place.

    Parameters
    ----------
    description, intent, labels : as in `encode_image`.

    Raises
    ------
    UsageError
        If the name ends in neither .nii nor .nii.gz.
    """
    large = is_large(image.shape, image.array.dtype)

    def check(temporary: Path) -> None:
        mapped = read_large(temporary, keep_type=True, mapped=True) if large else None
        again = mapped[0] if mapped else decode_image(temporary.read_bytes(), temporary, keep_type=True)
        same = same_values(again.array, image.array)
        if not same or not _same_place(again, image):
            raise OutputError(f"{target} was not written: what was read back differs from what was to be stored")

    if not large:
        return Output(target, encode_image(image, target, description, intent, labels), check)
    require_output_name(target, NIFTI)
    voxel = np.zeros((1,) * image.array.ndim, image.array.dtype)
    head: bytes = as_nifti(image, voxel, description, intent, labels).to_bytes()
    return Output(target, encode_large(head, image.array, target.name.endswith(".gz")), check)


def _same_place(written: Image, image: Image) -> bool:
    """Whether two affines agree; of an image whose position is unknown, the voxel sizes."""
    if image.codes == (0, 0):
        return np.allclose(written.spacing, image.spacing, atol=1e-4, rtol=1e-6)
    return np.allclose(written.affine, image.affine, atol=1e-4, rtol=1e-6)


def write_image(image: Image, target: Path, description: str, intent: str = "none") -> None:
    """Write a NIfTI file, whole and read back or not at all; a file of that name is replaced.

    Parameters
    ----------
    description, intent : as in `encode_image`.

    Raises
    ------
    UsageError
        If the name ends in neither .nii nor .nii.gz.
    OutputError
        If the file cannot be written.
    """
    write_together([image_output(image, target, description, intent)])


def save_nifti(image: Image, path: Path, *, description: str = "", labels: bool = False, force: bool = False) -> None:
    """Write a NIfTI file, whole and read back or not at all; see `crnn_cli.io.formats.save`."""
    require_writable(path, force)
    names = image.labels if isinstance(image, LabelImage) else ()
    write_together([image_output(image, path, description, "label" if labels else "none", names)], replace=force)


def write_stream(image: Image, stream: BinaryIO, description: str, intent: str = "none") -> None:
    """Write a NIfTI file to a binary stream, uncompressed; a `LabelImage` with the names of its labels."""
    names = image.labels if isinstance(image, LabelImage) else ()
    for chunk in image_output(image, Path("stream.nii"), description, intent, names).chunks():
        stream.write(chunk)
    stream.flush()


def series_header(image: Image, dtype: np.dtype[Any], frames: int, description: str) -> bytes:
    """Header of a series whose frames will follow, uncompressed and in Fortran order.

    Parameters
    ----------
    image : one frame (x, y, z, 1), with the geometry of all.
    dtype : of the voxels.
    frames : that will follow.
    """
    voxels = np.broadcast_to(np.zeros((), dtype), (*image.array.shape[:3], frames))
    nifti = as_nifti(image, voxels, description, "none")
    nifti.header["vox_offset"] = offset = 352
    head: bytes = nifti.header.binaryblock
    return head.ljust(offset, b"\0")


def decompressed(content: bytes, source: Path) -> bytes:
    """Content without gzip; bytes that are not compressed stay as they are.

    Raises
    ------
    UnreadableError
        If the compressed data are truncated or damaged, or much more than the header promises.
    DeviceError
        If they do not fit into memory.
    """
    return _opened(content, source)[0]


def _opened(content: bytes, source: Path) -> tuple[bytes, tuple[Remark, ...]]:
    """Content without gzip, and the doubt that something else follows it."""
    if content[:2] != _GZIP_MAGIC:
        return content, ()
    try:
        try:
            return gunzip(content, promised_bytes, name_of(source)), ()
        except gzip.BadGzipFile:
            end = _end_of_gzip(content)
            raw = gunzip(content[:end], promised_bytes, name_of(source))
    except (EOFError, OSError, zlib.error) as error:
        raise UnreadableError(f"{name_of(source)} is a truncated or damaged gzip file: {line_of(error)}") from None
    text = f"{len(content) - end} bytes that are no gzip follow the compressed image: they were ignored"
    return raw, (Doubt("trailing-bytes", text),)


def _end_of_gzip(content: bytes) -> int:
    """Where the last member of gzip ends; nothing that it unpacks to is kept."""
    end = 0
    while content[end : end + 2] == _GZIP_MAGIC:
        member, packed = zlib.decompressobj(zlib.MAX_WBITS | 16), content[end:]
        while packed:
            member.decompress(packed, HEAD)
            packed = member.unconsumed_tail
        if not member.eof:
            return len(content)
        end = len(content) - len(member.unused_data)
    return end
