"""The table of formats: told by content, read and written lazily, and the same as in the documentation."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import OutputExistsError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io import formats
from crnn_cli.io.describe import describe_image
from crnn_cli.io.discover import find_inputs
from crnn_cli.io.formats import FORMATS, identify, is_dicom, is_image, is_kspace, load, require_output_name, save, stem
from crnn_cli.io.images import LoadedImage, load_image
from tests.support.cfl import write_cfl
from tests.support.cines import moving_cine, to_kspace
from tests.support.cines import save as save_nifti
from tests.support.data import data_file
from tests.support.dicom import values, write_series
from tests.support.ismrmrd import Options, write_scan

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"


def test_the_documentation_has_every_format_and_suffix():
    page = PAGE.read_text()
    for row in FORMATS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {row.name} |")]
        assert [suffix for suffix in row.suffixes if f"`{suffix}`" not in line] == []


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_functions_of_the_table_exist_and_take_their_choices(row):
    reader = formats._imported(row.reader)
    assert list(inspect.signature(reader).parameters)[1:] == list(row.choices)
    assert set(row.choices) <= set(formats.CHOICES)
    if row.confirm:
        assert list(inspect.signature(formats._imported(row.confirm)).parameters) == ["path"]
    if row.writer:
        assert (
            inspect.signature(formats._imported(row.writer)).parameters.keys()
            == inspect.signature(save).parameters.keys()
        )


def test_the_table_loads_no_reader():
    code = (
        "import sys, crnn_cli.io.formats; heavy = {'numpy', 'nibabel', 'pydicom', 'h5py', 'scipy', 'highdicom'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_reading_nifti_loads_no_other_format(tmp_path):
    save_nifti(tmp_path / "a.nii", np.abs(moving_cine()))
    code = (
        "import sys; from crnn_cli.io.formats import load; load(sys.argv[1]);"
        "print([name for name in sys.modules if name.startswith(('crnn_cli.io.dicom', 'crnn_cli.io.kspace', 'h5py'))])"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.nii"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture
def one_of_each(tmp_path):
    """A file or folder of each format by name; the names of the files say nothing of it."""
    kspace = to_kspace(moving_cine())[:, :, 0].transpose(2, 1, 0)[None].astype(np.complex64)
    files = {name: tmp_path / name for name in ("numpy", "bart", "hdf5", "matlab", "ismrmrd", "dicom", "nifti.nii")}
    with files["numpy"].open("wb") as opened:
        np.save(opened, kspace)
    write_cfl(files["bart"], kspace.reshape(kspace.shape + (1,) * 12))
    import h5py
    import scipy.io

    with h5py.File(files["hdf5"], "w") as file:
        file["k"] = kspace
    scipy.io.savemat(files["matlab"], {"k": kspace}, appendmat=False)
    write_scan(files["ismrmrd"], Options())
    write_series(files["dicom"], values(2, 3, 4, 4))
    save_nifti(files["nifti.nii"], np.abs(moving_cine()))
    return files


def test_formats_are_told_by_content(one_of_each):
    assert {name: identify(path).name for name, path in one_of_each.items()} == {
        "numpy": "NumPy", "bart": "BART", "hdf5": "HDF5", "matlab": "MATLAB", "ismrmrd": "ISMRMRD", "dicom": "DICOM",
        "nifti.nii": "NIfTI",
    }  # fmt: skip
    kspace = {name for name, path in one_of_each.items() if is_kspace(path)}
    assert kspace == {"numpy", "bart", "hdf5", "matlab", "ismrmrd"}
    assert {name for name, path in one_of_each.items() if is_image(path)} == {"dicom", "nifti.nii"}
    assert [name for name, path in one_of_each.items() if is_dicom(path)] == ["dicom"]
    first = next(path for path in sorted(one_of_each["dicom"].iterdir()))
    assert identify(first).name == "DICOM"


def test_load_gives_images_or_a_scan(one_of_each):
    loaded = {name: load(str(one_of_each[name])) for name in ("ismrmrd", "dicom", "nifti.nii")}
    loaded["numpy"] = load(one_of_each["numpy"], axes="coil,t,ky,kx")
    assert {name: type(content) for name, content in loaded.items()} == {
        "ismrmrd": RawScan, "dicom": LoadedImage, "nifti.nii": LoadedImage, "numpy": RawScan,
    }  # fmt: skip
    assert loaded["dicom"].format == "DICOM"
    assert load(one_of_each["dicom"], series=1).source["series"] == "1"
    assert loaded["nifti.nii"].source["file"] == str(one_of_each["nifti.nii"])


@pytest.mark.parametrize(
    ("name", "choices", "said"),
    [
        ("nifti.nii", {"series": "1"}, r"series chooses a DICOM series; .* is NIfTI"),
        ("nifti.nii", {"slice_tolerance": 1.0}, "slice_tolerance is for slices"),
        ("dicom", {"axes": "x,y,t"}, "axes is for files whose axes are in doubt; .* is DICOM"),
        ("numpy", {"variable": "k"}, "only one array"),
        ("bart", {"phases": 3}, "phases sorts the lines of an ISMRMRD file"),
        ("ismrmrd", {"axes": "coil,t,ky,kx"}, "is ISMRMRD"),
        ("nifti.nii", {"axis": 1}, "axis is no parameter of a reader"),
    ],
)
def test_choices_that_a_format_does_not_leave_open_are_refused(one_of_each, name, choices, said):
    with pytest.raises(UsageError, match=said):
        load(one_of_each[name], **choices)


def test_kspace_is_named_where_images_are_wanted(one_of_each):
    for name in ("numpy", "bart", "hdf5", "matlab", "ismrmrd"):
        with pytest.raises(UnsupportedDataError, match="is taken for raw k-space, by its format: make images"):
            load_image(one_of_each[name])


def test_unknown_content_is_refused_with_its_first_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("no image at all")
    assert identify(tmp_path / "a.txt") is None
    with pytest.raises(UnreadableError, match=r"is not a NIfTI file: it starts with b'no image"):
        load(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="of no known format"):
        load(tmp_path / "a.txt", series="1")
    with pytest.raises(UnreadableError, match="does not exist"):
        load(tmp_path / "absent.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "folder"])
def test_an_image_is_saved_by_name_and_read_back(tmp_path, name):
    array = np.round(1000 * np.abs(moving_cine())).astype(np.float32)
    image = Image(array, np.diag([-1.5, -1.5, 8.0, 1.0]), 0.03, (1, 1))
    save(image, str(tmp_path / name), description="test")
    again = load(tmp_path / name).image
    assert again.array.sum(dtype=np.float64) == array.sum(dtype=np.float64)
    assert again.frame_time == pytest.approx(0.03)
    with pytest.raises(OutputExistsError):
        save(image, tmp_path / name)
    save(image, tmp_path / name, force=True)


def test_labels_are_saved_as_such(tmp_path):
    labels = Image(np.ones((4, 4, 2), np.uint8), np.eye(4))
    save(labels, tmp_path / "a.nii.gz", labels=True)
    assert load(tmp_path / "a.nii.gz").intent == 1002
    with pytest.raises(UnsupportedDataError, match="SEG"):
        save(labels, tmp_path / "folder", labels=True)


def test_other_names_are_not_written(tmp_path):
    image = Image(np.ones((4, 4, 2), np.float32), np.eye(4))
    for name in ("a.mha", "a.dcm", "-"):
        with pytest.raises(UsageError, match=r"must end in \.nii or \.nii\.gz"):
            save(image, tmp_path / name if name != "-" else name)
    assert require_output_name(Path("a.npy"), formats.NUMPY) is formats.NUMPY


def test_outputs_are_named_after_inputs(tmp_path):
    for row in FORMATS:
        for suffix in row.suffixes:
            assert stem(Path(f"a/scan.v2{suffix}")) == Path("a/scan.v2")
    assert stem(Path("scan.txt")) == Path("scan.txt")
    assert stem(tmp_path) == tmp_path.resolve()


def load_toy(path, axes=None):
    """Reader of a format of tests: a magic word, and one number that fills the image."""
    value = float(path.read_text().split()[1])
    image = Image(np.full((4, 4, 2), value, np.float32), np.eye(4))
    return LoadedImage(image, {"file": str(path), "axes": axes or ""}, dtype="float32", format="toy")


def test_a_new_image_format_needs_a_reader_and_a_row(tmp_path, monkeypatch, crnn):
    reader = "tests.io.test_formats:load_toy"
    toy = formats.Format("toy", "image", (".toy",), lambda path, start: start.startswith(b"TOY"), reader, ("axes",))
    (tmp_path / "a.toy").write_text("TOY 7")
    (tmp_path / "other.txt").write_text("no image")
    monkeypatch.setattr(formats, "FORMATS", (toy, *FORMATS))
    assert load_image(tmp_path / "a.toy", "x,y,z").source["axes"] == "x,y,z"
    assert find_inputs(tmp_path) == [tmp_path / "a.toy"]
    assert stem(tmp_path / "a.toy") == tmp_path / "a"
    assert describe_image(load_image(tmp_path / "a.toy"), "a.toy").format == "toy"
    assert crnn("convert", tmp_path / "a.toy", tmp_path / "a.nii").code == 0
    assert load(tmp_path / "a.nii").image.array.max() == 7
    with pytest.raises(UsageError, match="is toy"):
        load(tmp_path / "a.toy", series="1")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ksp.cfl", "BART"), ("cartesian_ksp.npy", "NumPy"), ("hp13c_lactate_prospective.mat", "MATLAB"),
        ("meas_MID00349_FID09273_SNR_R3.h5", "ISMRMRD"),
    ],
)  # fmt: skip
def test_real_files(file, name):
    assert identify(data_file("kspace", file)).name == name
