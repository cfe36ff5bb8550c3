"""No value of a patient or study attribute leaves in words: not on the terminal, in a report, a journal or a log."""

import warnings

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from crnn_cli.bundles.store import write_bundle
from crnn_cli.io.dicom.header_copy import PATIENT_AND_STUDY
from tests.cli.test_segment import CONFIG, volume, weights
from tests.io.dicom.test_header_repair import rewrite
from tests.support.dicom import oblique, write_series

MARK = "ZZSECRET"
IDENTIFIERS = [k for k in PATIENT_AND_STUDY if k not in ("StudyInstanceUID", "FrameOfReferenceUID")]
SPELLINGS = {
    "plain": lambda n: f"{MARK}{n}",
    "dates": lambda n: f"{MARK}-{n}-1950",
    "many": lambda n: f"{MARK}{n}\\{MARK}{n}B",
    "bytes": lambda n: f"{MARK}{n}\xe9\xff",
    "long": lambda n: f"{MARK}{n}" * 30,
}
SIMULATED = ("--format", "dicom", "--undersample", "2", "--method", "zero-filled", "--json")
WRITERS = {
    "convert": ("convert", "{d}", "{out}"),
    "convert with reference": ("convert", "{nifti}", "{out}", "--reference-dicom", "{d}"),
    "convert off the grid": ("convert", "{other}", "{out}", "--reference-dicom", "{d}"),
    "reconstruct": (
        "reconstruct",
        "{d}",
        "-o",
        "{out}",
        *SIMULATED,
        "--preview",
        "{out}.png",
        "--report",
        "{out}.html",
    ),
    "segment": ("segment", "{d}", "-o", "{out}.dcm", "--model", "{model}", "--json", "--statistics", "{out}.csv"),
    "batch reconstruct": ("batch", "reconstruct", "{d}", "-o", "{out}", *SIMULATED),
    "batch segment": ("batch", "segment", "{d}", "-o", "{out}", "--format", "dicom", "--model", "{model}", "--json"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("seg") / "tiny", CONFIG, weights(), "# tiny\n").folder


@pytest.fixture
def study(tmp_path):
    """Write a cine that the tiny model labels, and label-free NIfTI on its grid and off it."""
    pixels = np.round(volume() * 4).astype(int).transpose(2, 1, 0)[:, None]
    affine = write_series(tmp_path / "d", np.repeat(pixels, 2, 1), oblique(8), (1.5, 1.5), 8.0)
    for name, moved in (("nifti", 0), ("other", 20)):
        placed = affine.copy()
        placed[0, 3] += moved
        array = np.repeat(volume()[..., None], 2, 3).astype(np.float32)
        nib.save(nib.Nifti1Image(array, placed), tmp_path / f"{name}.nii")
    return tmp_path


def words_of(crnn, caplog, place, model, command):
    """Run a command, and return its exit code and all words that it left: streams, logs, warnings, files."""
    names = {name: place / name for name in ("d", "out")} | {"model": model}
    names |= {name: place / f"{name}.nii" for name in ("nifti", "other")}
    before = {*place.rglob("*")}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ended = crnn("-v", *(str(word).format(**names) for word in WRITERS[command]))
    texts = [ended.err, ended.out.decode(), caplog.text, *(str(each.message) for each in warned)]
    for path in {*place.rglob("*")} - before:
        texts.append(path.name)
        if path.is_file() and path.suffix != ".dcm":
            texts.append(path.read_bytes().decode("latin-1"))
    return ended.code, "\n".join(texts)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("command", WRITERS)
def test_no_value_of_the_patient_is_quoted(crnn, caplog, study, model, command, spelling):
    marked = {k: SPELLINGS[spelling](n).encode("latin-1") for n, k in enumerate(IDENTIFIERS)}
    rewrite(study / "d", **marked)
    code, words = words_of(crnn, caplog, study, model, command)
    assert code == 0, words
    assert MARK.lower() not in words.lower()
    assert "PatientSex" in words  # it is named as left out: the test does reach the headers
    assert list(study.glob("out*/**/*.dcm")) or list(study.glob("out*.dcm"))


def quoting(*args, **kwargs):
    raise ValueError(f"what is {MARK}?")


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("raiser", ["highdicom", "pydicom writing", "pydicom reading"])
def test_nor_does_one_leave_in_the_words_of_a_library(crnn, caplog, study, model, monkeypatch, command, raiser):
    if raiser == "highdicom":
        monkeypatch.setattr(hd.seg.Segmentation, "__init__", quoting)
    elif raiser == "pydicom writing":
        monkeypatch.setattr(Dataset, "save_as", quoting)
    else:
        monkeypatch.setattr("crnn_cli.io.dicom.header_copy.dcmread", quoting)
    code, words = words_of(crnn, caplog, study, model, command)
    met = raiser != "highdicom" or "segment" in command
    assert code == (0 if not met else 7 if "batch" in command else 4), words
    assert MARK.lower() not in words.lower()
    assert not met or "ValueError" in words
