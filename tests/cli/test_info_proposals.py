"""Whatever ``crnn info`` proposes runs, on every input there is; it is one line that a shell reads as it was meant."""

import json
import shlex
import shutil
import subprocess
import zipfile

import nibabel as nib
import numpy as np
import pytest

from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support import kspace
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.data import ROOT, data_file
from tests.support.dicom import values, write_enhanced, write_series
from tests.support.ismrmrd import Options, write_scan

SAMPLES = ROOT / "sample_data"
THICK = np.diag([-1.4, -1.4, 8.0, 1])
_ACROSS = np.array([0.605, 0.655, 0])
_NORMAL = np.array([0.655, -0.605, -0.453])  # LPS, of the left ventricle of most people
SHORT_AXIS = _ACROSS / np.linalg.norm(_ACROSS), np.cross(_NORMAL, _ACROSS) / np.linalg.norm(np.cross(_NORMAL, _ACROSS))
CUBES = np.diag([1.0, 1.0, 1.0, 1])


def proposed(crnn, *arguments):
    """Return the commands that are proposed, as a shell splits them."""
    ended = crnn("info", "--json", *arguments)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert all(command in found["next_step"] for command in found["next_commands"])
    return [shlex.split(command) for command in found["next_commands"]]


def require_to_run(crnn, bundle, folder, *arguments):
    """Run all commands that are proposed for an input, with a small network; return their names."""
    commands = proposed(crnn, *arguments)
    for number, (program, name, *words) in enumerate(commands):
        assert program == "crnn"
        more = [] if name == "labels" else ["-o", folder / f"out{number}.nii.gz"]
        if name == "reconstruct" and "--method" not in words:
            more += ["--model", bundle]
        ended = crnn(name, *words, *more)
        assert ended.code == 0, (words, ended.err)
    return [name for _, name, *_ in commands]


def smooth(shape, seed=0):
    """Return positive noise of all values."""
    return (100 + 50 * np.random.default_rng(seed).random(shape)).astype(np.float32)


def undersampled(x=24, y=40, z=2, t=6):
    return to_images(to_kspace(moving_cine(x, y, z, t)) * lines_mask(x, y, t)).astype(np.complex64)


IMAGES = {
    "magnitude series": (np.abs(moving_cine(32, 40, 3, 5)).astype(np.float32), THICK, ["reconstruct", "segment"]),
    "undersampled": (undersampled(), AFFINE, ["reconstruct"]),
    "fully sampled": (moving_cine(24, 64, 2, 4), THICK, ["reconstruct", "segment"]),
    "one slice": (smooth((40, 48, 1, 6)), THICK, ["reconstruct", "segment"]),
    "one frame": (smooth((40, 48, 3, 1)), THICK, ["segment"]),
    "few lines": (smooth((16, 9, 2, 4)), THICK, ["reconstruct", "segment"]),
    "too few lines": (smooth((16, 3, 1, 4)), THICK, ["segment"]),
    "stack": (smooth((40, 48, 6)), THICK, ["segment"]),
    "cube": (smooth((24, 26, 25)), CUBES, ["segment"]),
    "cube in time": (smooth((16, 18, 17, 3)), CUBES, ["reconstruct"]),
    "micrometres": (smooth((24, 24, 3)), np.diag([0.01, 0.01, 0.1, 1]), []),
    "sheared": (smooth((24, 24, 3)), THICK + np.array([[0, 0.4, 0, 0]] + [[0] * 4] * 3), []),
    "picture": (smooth((24, 24)), CUBES, []),
    "constant": (np.full((24, 24, 2, 4), 7, np.float32), THICK, ["segment"]),
    "not finite": (np.full((24, 24, 2, 4), np.nan, np.float32), THICK, []),
    "labels": (np.random.default_rng(0).integers(0, 4, (12, 12, 3, 2)).astype(np.uint8), THICK, ["labels"]),
    "labels in floating point": (
        np.random.default_rng(0).integers(0, 4, (12, 12, 3)).astype(np.float32),
        THICK,
        ["labels"],
    ),
    "Hounsfield units": (20 * smooth((24, 24, 6)) - 3000, THICK, []),
    "16-bit image": (values(3, 4, 24, 24).transpose(2, 3, 0, 1).astype(np.int16), THICK, ["reconstruct", "segment"]),
}


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_proposed_for_an_image_runs(crnn, bundle, tmp_path, name):
    array, affine, names = IMAGES[name]
    file = save(tmp_path / f"{name}.nii", array, affine=affine)
    assert require_to_run(crnn, bundle, tmp_path, file) == names


def write_raw(folder, name):
    """Write raw k-space of a kind; return what `crnn info` is asked."""
    whole = kspace.kspace(slices=2, coils=3, frames=4) * kspace.lines(4)[:, :, None]
    if name == "array":
        np.save(folder / "k.npy", measured()[1])
        return [folder / "k.npy", "--axes", AXES]
    if name == "array of one frame":
        np.save(folder / "k.npy", measured()[1][:, :, 0])
        return [folder / "k.npy", "--axes", "slice,coil,ky,kx"]
    if name == "array of one coil":
        np.save(folder / "k.npy", measured()[1][0, 0])
        return [folder / "k.npy", "--axes", "t,ky,kx"]
    if name == "one frame of one coil":
        np.save(folder / "k.npy", measured()[1][0, 0, 0])
        return [folder / "k.npy", "--axes", "ky,kx"]
    if name in ("no calibration lines", "no calibration lines, one frame"):
        holes = np.array(kspace.kspace(slices=1, coils=3, frames=4)[0])
        holes[:, :, ::2] = 0
        one = "one frame" in name
        np.save(folder / "k.npy", holes[:, 0] if one else holes)
        return [folder / "k.npy", "--axes", "coil,ky,kx" if one else "coil,t,ky,kx"]
    if name == "BART":
        return [kspace.write_bart(folder / "k", whole)]
    if name == "CMRxRecon":
        return [kspace.write_v73(folder / "k.mat", kus=kspace.matlab(whole))]
    if name == "MATLAB 5":
        return [kspace.write_v5(folder / "k.mat", kspace=whole), "--axes", "slice,coil,t,ky,kx"]
    if name == "fastMRI":
        return [kspace.write_fastmri(folder / "k.h5", kspace.kspace(slices=2, coils=3, frames=1))]
    return [folder / "k.h5"]


RAW = (
    "array", "array of one frame", "array of one coil", "one frame of one coil", "no calibration lines",
    "no calibration lines, one frame", "BART", "CMRxRecon", "MATLAB 5", "fastMRI",
)  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_what_is_proposed_for_raw_data_runs(crnn, bundle, tmp_path, name):
    asked = write_raw(tmp_path, name)
    names = require_to_run(crnn, bundle, tmp_path, *asked)
    assert names == ([] if name == "one frame of one coil" else ["reconstruct"])


@pytest.mark.parametrize("options", [
    {}, {"frames": 1}, {"coils": 1}, {"acceleration": 2, "calibration": "separate", "lines": 24, "samples": 16},
    {"acceleration": 2, "calibration": "embedded", "lines": 24, "samples": 16},
    {"acceleration": 2, "lines": 24, "samples": 16}, {"acceleration": 2, "frames": 1, "lines": 24}, {"planes": 4},
])  # fmt: skip
def test_what_is_proposed_for_ismrmrd_runs(crnn, bundle, tmp_path, options):
    write_scan(tmp_path / "k.h5", Options(**options))
    assert require_to_run(crnn, bundle, tmp_path, tmp_path / "k.h5") == ["reconstruct"]


def write_dicom(folder, name):
    """Write a DICOM folder of a kind; return the commands that are wanted."""
    study = folder / "my study"
    plain = {"spacing": (1.4, 1.4), "gap": 8.0, "directions": None if name == "axial" else SHORT_AXIS}
    if name == "axial":
        write_series(study, values(3, 4, 32, 40), **plain)
        return ["reconstruct"]
    if name == "cine":
        write_series(study, values(3, 4, 32, 40), **plain)
        return ["reconstruct", "segment"]
    if name == "volume":
        write_series(study, values(6, 1, 32, 40), **plain)
        return ["segment"]
    if name == "cine behind a picture":
        write_series(study, values(1, 1, 32, 40), SeriesNumber=1, **plain)
        write_series(study, values(2, 4, 32, 40), SeriesNumber=2, **plain)
        return ["reconstruct", "segment"]
    if name == "CT":
        write_series(study, values(6, 1, 32, 40), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2", **plain)
        return []
    if name == "uneven":
        write_series(study, values(3, 4, 32, 40), positions=[0, 8, 16.4], **plain)
        return []
    write_enhanced(study.with_name("one file.dcm"), values(3, 4, 32, 40), SHORT_AXIS)
    study.with_name("one file.dcm").rename(study)
    return ["reconstruct", "segment"]


@pytest.mark.parametrize("name", ["cine", "axial", "volume", "cine behind a picture", "CT", "uneven", "enhanced"])
def test_what_is_proposed_for_dicom_runs(crnn, bundle, tmp_path, name):
    names = write_dicom(tmp_path, name)
    assert require_to_run(crnn, bundle, tmp_path, tmp_path / "my study") == names


def test_what_is_proposed_needs_the_tolerance_that_info_was_given(crnn, bundle, tmp_path):
    write_dicom(tmp_path, "uneven")
    asked = (tmp_path / "my study", "--slice-tolerance", "0.5")
    assert require_to_run(crnn, bundle, tmp_path, *asked) == ["reconstruct", "segment"]


def test_what_is_proposed_for_named_axes_names_them(crnn, bundle, tmp_path):
    file = save(tmp_path / "a.nii", np.abs(moving_cine(24, 40, 1, 6))[:, :, 0])
    assert require_to_run(crnn, bundle, tmp_path, file, "--axes", "x,y,t") == ["reconstruct"]


def a_part(file, target):
    """Write at most 64 x 64 pixels of an image, and of a series three slices and four frames."""
    image = nib.load(file)
    keep = [slice(max(0, n // 2 - 32), n // 2 + 32) for n in image.shape[:2]]
    keep += [slice(0, 3), slice(0, 4)] if len(image.shape) == 4 else [slice(None)]
    nib.save(image.slicer[tuple(keep)], target)
    return target


@pytest.mark.parametrize("name", ["pig_cine.nii.gz", "pig_stack.nii.gz"])
def test_what_is_proposed_for_the_samples_runs(crnn, bundle, tmp_path, name):
    """On a part of each."""
    assert require_to_run(crnn, bundle, tmp_path, a_part(SAMPLES / name, tmp_path / name))


@pytest.mark.parametrize("name", ["cine_undersampled.nii.gz", "pig_cine_dicom.zip"])
def test_what_is_proposed_for_the_samples_that_have_no_parts_runs(crnn, bundle, tmp_path, name):
    assert require_to_run(crnn, bundle, tmp_path, SAMPLES / name)


REAL = (
    ("acdc_cine", "patient041_4d.nii.gz"), ("acdc_cine", "patient015_4d.nii.gz"),
    ("acdc_labelled", "patient001", "patient001_frame01.nii.gz"),
    ("acdc_labelled", "patient001", "patient001_frame01_gt.nii.gz"),
    ("acdc_groups", "patient021", "patient021_frame01.nii.gz"),
    ("acdc_groups", "patient021", "patient021_frame01_gt.nii.gz"),
    ("sunnybrook_lv", "SC-HF-I-01_phase08.nii.gz"), ("sunnybrook_lv", "SC-HF-I-01_phase08_gt.nii.gz"),
    ("hippocampus", "images", "hippocampus_001.nii.gz"), ("hippocampus", "labels", "hippocampus_001.nii.gz"),
    ("fmri", "fmri.nii.gz"),
)  # fmt: skip


@pytest.mark.parametrize("parts", REAL, ids="/".join)
def test_what_is_proposed_for_real_images_runs(crnn, bundle, tmp_path, parts):
    """On a part of each."""
    assert require_to_run(crnn, bundle, tmp_path, a_part(data_file(*parts), tmp_path / parts[-1]))


@pytest.mark.parametrize("series", ["pig_cine_sax", "ct_3slice", "ct_head_ge", "epi_philips"])
def test_what_is_proposed_for_real_dicom_runs(crnn, bundle, tmp_path, series):
    """On two neighbouring slices and three times of the pig and the functional series, all of the others."""
    import pydicom

    folder = data_file(series) if series == "pig_cine_sax" else data_file("dicom", series)
    headers = {file: pydicom.dcmread(file, stop_before_pixels=True) for file in folder.iterdir()}
    moments = sorted({float(d.get("TriggerTime", d.get("AcquisitionNumber", 0))) for d in headers.values()})[:3]
    places = sorted({round(float(d.ImagePositionPatient[2]), 3) for d in headers.values()})
    places = places if "ct" in series else places[4:6]
    study = tmp_path / "study"
    study.mkdir()
    for file, data in headers.items():
        near = "ct" in series or float(data.get("TriggerTime", data.get("AcquisitionNumber", 0))) in moments
        if near and round(float(data.ImagePositionPatient[2]), 3) in places:
            shutil.copy(file, study)
    names = require_to_run(crnn, bundle, tmp_path, study)
    assert bool(names) == ("ct" not in series)


REAL_RAW = {
    "ksp.cfl": [], "cartesian_ksp.npy": ["--axes", "coil,ky,kx"], "meas_MID00349_FID09273_SNR_R3.h5": [],
    "hp13c_lactate_prospective.mat": ["--axes", "kx,ky,kz,t"],
}  # fmt: skip


@pytest.mark.parametrize("name", REAL_RAW)
def test_what_is_proposed_for_real_raw_data_runs(crnn, bundle, tmp_path, name):
    assert require_to_run(crnn, bundle, tmp_path, data_file("kspace", name), *REAL_RAW[name]) == ["reconstruct"]


@pytest.mark.parametrize("name", [
    "my scan [1] ü.nii", "it's; rm -rf $(HOME) `x` \\ \"quoted\".nii", "-o.nii", "--help", "a" * 200 + ".nii", "*.nii",
    "~.nii",
])  # fmt: skip
@pytest.mark.parametrize("columns", ["40", "60", ""])
def test_a_shell_gets_the_command_whole_whatever_the_name_and_the_width(
    crnn, bundle, tmp_path, monkeypatch, name, columns
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", columns)
    save(tmp_path / "plain.nii", smooth((40, 48, 2, 4)), affine=THICK).rename(name)
    shown = crnn("info", "--", name).out.decode().splitlines()
    commands = [line.removeprefix("next: ") for line in shown if line.startswith("next: ")]
    assert len(commands) == 2
    for command, wanted in zip(commands, ("reconstruct", "segment"), strict=True):
        script = f"crnn() {{ printf '%s\\0' \"$@\"; }}; {command}"
        read = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
        assert read[0] == wanted
        assert read[1].removeprefix("./") == name
        assert "#" not in read
    if not columns:
        assert proposed(crnn, "--", name) == [shlex.split(command, comments=True) for command in commands]


def test_a_zip_of_nothing_that_helps_proposes_nothing(crnn, tmp_path):
    write_dicom(tmp_path, "CT")
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for file in (tmp_path / "my study").iterdir():
            archive.write(file, file.name)
    assert proposed(crnn, tmp_path / "ct.zip") == []
    assert "note: no series here can be reconstructed" in crnn("info", tmp_path / "ct.zip").out.decode()
