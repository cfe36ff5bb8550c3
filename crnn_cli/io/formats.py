"""The table of file formats: how each is recognised, read, written and named.

`FORMATS` is searched from the top, and the first row that matches a path is its format. Formats are told by content:
the first 2 kB of a file, and for two of them a second look. NIfTI comes last, by name, as gzip hides its content.

Readers return data and facts: a `crnn_cli.io.loaded_image.LoadedImage` (image, file, sha256) or a
`crnn_cli.data.raw_scan.RawScan` (headers; slices are read on demand). Their modules are imported when they are called,
so that reading one format does not load the libraries of the others.

A new image format touches four files:

1. its reader, ``crnn_cli/io/<format>/image.py``: ``load_<format>(path, **choices) -> LoadedImage``;
2. this table: one row of `FORMATS`;
3. a test, ``tests/io/<format>/test_image.py``;
4. the table of formats in ``docs/reference/formats.md``; a test compares it with this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crnn_cli.data.input_files import require_file
from crnn_cli.errors import Param, UnreadableError, UsageError
from crnn_cli.io.signature import begins_as_dicom
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.data.raw_scan import RawScan
    from crnn_cli.io.loaded_image import LoadedImage

Kind = Literal["image", "kspace", "labels"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048)
_HDF5_NAMES = (".h5", ".hdf5", ".mat", ".mrd")
_LENGTH = _HDF5_OFFSETS[-1] + len(_HDF5)
"""Bytes of a file that `Format.matches` is shown."""


@dataclass(frozen=True)
class Format:
    """A file format: one row of the table.

    Attributes
    ----------
    name : as the field calls it.
    kind : whether its files hold images, k-space or label maps.
    suffixes : endings of its file names, lower case.
    folder : whether an output is a folder of files.
    matches : tells from the path and the first bytes of the file whether it can be of this format. The bytes are empty
        for a folder and for a path that does not exist.
    reader : function as ``module:name``, called with the path and the ``choices`` that are given.
    choices : parameters of the reader, such as ``axes``.
    confirm : function of the path, as ``module:name``: a second look where formats begin alike. Empty: none is needed.
    writer : function as ``module:name``, called as `save` is. Empty: files of this format are not written from an image
        alone.
    output_rule : what the name of an output must be like, for messages. Empty: nothing is written in this format.
    """

    name: str
    kind: Kind
    suffixes: tuple[str, ...]
    matches: Callable[[Path, bytes], bool]
    reader: str
    choices: tuple[str, ...] = ()
    confirm: str = ""
    writer: str = ""
    output_rule: str = ""
    folder: bool = False

    def read(self, path: Path, choices: dict[str, Any]) -> Any:
        """Call the reader.

        Raises
        ------
        UsageError
            If a choice is given that files of this format do not leave open.
        CrnnError
            See the reader.
        """
        require_choices(path, choices, self)
        return _imported(self.reader)(path, **{name: choices[name] for name in self.choices if name in choices})

    def is_output_name(self, path: Path) -> bool:
        """Whether an output of this format may have a name: one of the suffixes, or none for a folder."""
        if self.folder:
            return path != STREAM and "." not in path.name
        return path.name.endswith(self.suffixes)


def _is_hdf5(path: Path, start: bytes) -> bool:
    found = start.startswith(b"MATLAB 7.3") or any(start[at:].startswith(_HDF5) for at in _HDF5_OFFSETS)
    return found or (path.name.lower().endswith(_HDF5_NAMES) and len(start) == _LENGTH and _is_hdf5_farther_on(path))


def _is_hdf5_farther_on(path: Path) -> bool:
    """Whether HDF5 begins behind a longer block of the user's, whose length is a power of two."""
    at, size = 2 * _HDF5_OFFSETS[-1], path.stat().st_size
    with path.open("rb") as opened:
        while at + len(_HDF5) <= size:
            opened.seek(at)
            if opened.read(len(_HDF5)) == _HDF5:
                return True
            at *= 2
    return False


def _is_bart(path: Path, start: bytes) -> bool:
    if not path.exists():  # what both files of a pair begin with
        return bool(path.name) and all(path.with_name(path.name + suffix).is_file() for suffix in BART.suffixes)
    return path.is_file() and (start.lstrip().startswith(b"# Dimensions") or path.suffix == BART.suffixes[0])


def _is_dicom(path: Path, start: bytes) -> bool:
    if path == STREAM:
        return False
    return path.is_dir() or path.name.upper() == "DICOMDIR" or begins_as_dicom(start) or start[:4] == b"PK\x03\x04"


def _is_dicom_file(path: Path, start: bytes) -> bool:
    return not path.is_dir() and begins_as_dicom(start)


def _is_metaimage(path: Path, start: bytes) -> bool:
    named = path.suffix.lower() in METAIMAGE.suffixes  # there is no magic number, and keys may come in any order
    return start.startswith(b"ObjectType") or (named and start.lstrip().startswith((b"NDims", b"Comment", b"ID")))


def _is_nifti_name(path: Path, start: bytes) -> bool:
    return path == STREAM or path.name.lower().endswith(NIFTI.suffixes)


NUMPY = Format(
    "NumPy", "kspace", (".npy",), lambda path, start: start.startswith(b"\x93NUMPY"),
    "crnn_cli.io.kspace.npy:read_numpy", ("axes", "kind", "drop_empty"), output_rule="must end in .npy",
)  # fmt: skip
NPZ = Format(
    "NumPy archive", "kspace", (".npz",), lambda path, start: path.suffix.lower() == ".npz" and start[:2] == b"PK",
    "crnn_cli.io.kspace.npz:read_npz", ("axes", "variable", "kind", "drop_empty"),
)  # fmt: skip
MATLAB = Format(
    "MATLAB", "kspace", (".mat",), lambda path, start: start.startswith(b"MATLAB 5.0"),
    "crnn_cli.io.kspace.matlab:read_matlab", ("axes", "variable", "kind", "drop_empty"),
)  # fmt: skip
ISMRMRD = Format(
    "ISMRMRD", "kspace", (".h5", ".mrd"), _is_hdf5, "crnn_cli.io.kspace.ismrmrd.read:read_ismrmrd",
    ("variable", "phases", "slice_tolerance", "set_number", "contrast", "repetition", "phase_number", "view",
     "drop_empty"), confirm="crnn_cli.io.kspace.hdf5:is_ismrmrd",
)  # fmt: skip
HDF5 = Format(
    "HDF5", "kspace", (".h5", ".hdf5", ".mat"), _is_hdf5, "crnn_cli.io.kspace.hdf5:read_hdf5",
    ("axes", "variable", "kind", "drop_empty"),
)  # fmt: skip
BART = Format("BART", "kspace", (".cfl", ".hdr"), _is_bart, "crnn_cli.io.kspace.bart:read_bart",
              ("axes", "kind", "drop_empty"))  # fmt: skip
DICOM_SEG = Format(
    "DICOM SEG", "labels", (".dcm",), _is_dicom, "crnn_cli.io.dicom.seg_read:load_seg",
    confirm="crnn_cli.io.dicom.seg_series:is_seg", output_rule="must end in .dcm",
)  # fmt: skip
DICOM = Format(
    "DICOM", "image", (".dcm", ".zip"), _is_dicom, "crnn_cli.io.dicom.read:load_dicom",
    ("series", "slice_tolerance", "slice_number"),
    writer="crnn_cli.io.dicom.write:save_dicom", output_rule="must be that of a folder, without a suffix", folder=True,
)  # fmt: skip
NIFTI = Format(
    "NIfTI", "image", (".nii", ".nii.gz"), _is_nifti_name, "crnn_cli.io.nifti.image:load_nifti",
    ("axes", "keep_type"),
    writer="crnn_cli.io.nifti.image:save_nifti", output_rule="must end in .nii or .nii.gz",
)  # fmt: skip

NRRD = Format(
    "NRRD", "image", (".nrrd", ".nhdr"), lambda path, start: start.startswith(b"NRRD0"),
    "crnn_cli.io.itk.image:load_itk", ("keep_type",),
)  # fmt: skip
METAIMAGE = Format(
    "MetaImage", "image", (".mha", ".mhd"), _is_metaimage, "crnn_cli.io.itk.image:load_itk", ("keep_type",)
)

FORMATS = (NUMPY, NPZ, MATLAB, ISMRMRD, HDF5, BART, NRRD, METAIMAGE, DICOM_SEG, DICOM, NIFTI)
"""All formats, in the order in which a path is compared with them."""

CHOICES = {
    "axes": "is for files whose axes are in doubt",
    "series": "chooses a DICOM series",
    "slice_tolerance": "is for slices of a DICOM series or an ISMRMRD file",
    "slice_number": "takes a whole slice of a DICOM series with holes",
    "variable": "chooses an array of a MATLAB or HDF5 file, where others hold only one array",
    "keep_type": "keeps integers and doubles of image files that are read in single precision",
    "phases": "sorts the lines of an ISMRMRD file by their ECG time stamps",
    "kind": "says whether an array holds k-space or images",
    "set_number": "chooses among the sets of an ISMRMRD file",
    "contrast": "chooses among the contrasts of an ISMRMRD file",
    "repetition": "chooses among the repetitions of an ISMRMRD file",
    "phase_number": "chooses among the phases of an ISMRMRD file",
    "view": "chooses among the directions of slices of an ISMRMRD file",
    "drop_empty": "leaves empty frames of raw k-space out",
}
"""Parameters of readers, and what each is for."""


def identify(path: Path, *kinds: Kind) -> Format | None:
    """Find the format of a file or folder; None if it is of no known one.

    Parameters
    ----------
    kinds : of the formats to compare with; none for all.

    Raises
    ------
    UnreadableError
        If a file is there but cannot be read, or is damaged HDF5.
    """
    start = first_bytes(path)
    for row in FORMATS:
        possible = (not kinds or row.kind in kinds) and row.matches(path, start)
        if possible and (not row.confirm or _imported(row.confirm)(path)):
            return row
    return None


def is_kspace(path: Path) -> bool:
    """Whether a path holds, or claims to hold, raw k-space of a known format; only its first bytes are read.

    A BART pair may be named without its suffix.

    Raises
    ------
    UnreadableError
        If the file is there but cannot be read.
    """
    start = first_bytes(path)
    return any(row.kind == "kspace" and row.matches(path, start) for row in FORMATS)


def is_image(path: Path) -> bool:
    """Whether a path holds, or claims to hold, images or label maps; only its first bytes are read.

    That is a folder, a DICOMDIR, a DICOM file, a zip archive, a file with a name of NIfTI, or ``-``.

    Raises
    ------
    UnreadableError
        If the file is there but cannot be read.
    """
    start = first_bytes(path)
    return any(row.kind != "kspace" and row.matches(path, start) for row in FORMATS)


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder, a DICOMDIR, a DICOM file or a zip archive; told without pydicom."""
    return DICOM.matches(path, _readable_bytes(path))


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as DICOM: ``DICM`` after 128 bytes, or, without preamble, with its first element."""
    return _is_dicom_file(path, _readable_bytes(path))


def load(path: str | Path, **choices: Any) -> LoadedImage | RawScan:
    """Read images or raw k-space, whichever a path holds.

    Large NIfTI files are mapped, and k-space is read slice by slice on demand.

    Parameters
    ----------
    path : file or folder, or ``-`` for a NIfTI file from standard input.
    choices : what the file leaves open, each None if not given: ``axes`` (stored axes, such as ``x,y,t`` or
        ``coil,t,ky,kx``), ``series`` (number or UID in a DICOM folder), ``slice_tolerance`` (mm), ``variable`` (name of
        an array), ``phases`` (number of cardiac phases), ``keep_type`` (keep integers and doubles of NIfTI, NRRD and
        MetaImage, which are read in single precision otherwise).

    Raises
    ------
    UsageError
        If a choice does not go with the format.
    UnreadableError
        If the path is missing or damaged, or of no known format.
    UnsupportedDataError
        If the content is ambiguous or not supported.
    """
    path = Path(path)
    loaded: LoadedImage | RawScan = read_as(identify(path), path, choices)
    return loaded


def read_as(row: Format | None, path: Path, choices: dict[str, Any]) -> Any:
    """Read a path in a format; a path of no known format as NIfTI, whose reader names the reason.

    Parameters
    ----------
    row : the format, as `identify` finds it.
    choices : parameters of the reader; those that are None count as not given.

    Raises
    ------
    CrnnError
        As `load`.
    """
    given = {name: value for name, value in choices.items() if value is not None}
    if row is None:
        require_not_foreign(path)
        require_choices(path, given, None)
    return (row or NIFTI).read(path, given)


def require_not_foreign(path: Path) -> None:
    """Raise UnreadableError for raw k-space in the format of a vendor or of a stream; it names a converter."""
    _imported("crnn_cli.io.kspace.foreign:refuse_foreign")(path, _readable_bytes(path))


def require_choices(path: Path, choices: dict[str, Any], row: Format | None) -> None:
    """Raise UsageError if a choice is given that the format does not leave open; None stands for no known format."""
    for name in choices:
        if name not in CHOICES:
            raise UsageError(f"{name} is no parameter of a reader: use {', '.join(CHOICES)}")
        if name not in (row or NIFTI).choices:
            held = "of no known format" if row is None else row.name
            raise UsageError(Param(name), f" {CHOICES[name]}; {path} is {held}")


def save(
    image: Image, path: str | Path, *, description: str = "", labels: bool = False, force: bool = False
) -> None:  # fmt: skip
    """Write an image, in the format that the name asks for, whole and read back or not at all.

    Parameters
    ----------
    path : ``NAME.nii`` or ``NAME.nii.gz`` for NIfTI; a name without suffix for a folder of DICOM images, one for each
        slice and frame, of a new study without a patient.
    description : for the header, at most 79 bytes of NIfTI or 64 characters of DICOM.
    labels : whether the values are labels (intent code of NIfTI; DICOM is refused).
    force : replace what is there.

    Raises
    ------
    UsageError
        If no format is written to such a name.
    UnsupportedDataError
        If the format cannot hold the values.
    OutputError
        If the file exists and not ``force``, or cannot be written.
    """
    path = Path(path)
    row = require_output_name(path, *(row for row in FORMATS if row.writer))
    _imported(row.writer)(image, path, description=description, labels=labels, force=force)


def require_output_name(path: Path, *formats: Format) -> Format:
    """Find the one of some formats that a name belongs to.

    Raises
    ------
    UsageError
        If it belongs to none of them.
    """
    for row in formats:
        if row.is_output_name(path):
            return row
    raise UsageError(f"cannot write {path}: the output name {', or '.join(row.output_rule for row in formats)}")


def stem(path: Path) -> Path:
    """Path without the suffix of its format, to name an output after it; of a folder, its full path.

    >>> stem(Path("study/scan.v2.nii.gz")).name, stem(Path("raw.h5")).name, stem(Path("notes.txt")).name
    ('scan.v2', 'raw', 'notes.txt')
    """
    if path.is_dir():
        return path.resolve()
    name = path.name.removesuffix(".gz")
    suffixes = (suffix for row in FORMATS for suffix in row.suffixes)
    return path.with_name(name.removesuffix(next((suffix for suffix in suffixes if name.endswith(suffix)), "")))


def first_bytes(path: Path) -> bytes:
    """First 2 kB of a file; empty for a stream, a folder, and a path that does not exist.

    Raises
    ------
    UnreadableError
        If the file cannot be read.
    """
    if path == STREAM:
        return b""
    require_file(path)
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as opened:
            return opened.read(_LENGTH)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error


def _readable_bytes(path: Path) -> bytes:
    try:
        return first_bytes(path)
    except UnreadableError:
        return b""


def _imported(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    imported: Callable[..., Any] = getattr(import_module(module), function)
    return imported
