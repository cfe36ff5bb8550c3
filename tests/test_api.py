"""The Python API: the surface is pinned, nothing is printed, and it gives what the commands give."""

import inspect
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import crnn_cli
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.data import ROOT

SURFACE = {
    "load": (
        "path axes series phase slice_tolerance variable phases kind set_number contrast repetition phase_number view "
        "drop_empty"
    ),
    "from_kspace": "kspace axes mask affine frame_time",
    "load_model": "name",
    "reconstruct": (
        "scan model method mask undersample seed iterations regularisation noise_ratio precision ensemble adapt coils "
        "maps map_sets slice_number hold_out_folds uncertainty_runs keep_runs device threads progress"
    ),
    "segment": (
        "image model slices labels threshold keep_largest frame_by_frame spacing drawn empty fixed frames fill minutes "
        "steps seed precision device threads progress"
    ),
    "function": "source labels runs ed es height weight bsa heart_rate model device progress",
    "forecast": "series frames from_frame reference model device threads progress",
    "events": "series threshold model device threads progress",
    "evaluate": "tested reference kind uncertainty ignore_geometry fit_scale",
    "save": "content path complex_output force",
}
CLASSES = {
    "Bundle",
    "CardiacFunction",
    "CrnnError",
    "ExpectedPSNR",
    "ForecastResult",
    "Image",
    "LabelImage",
    "RawScan",
    "ReconstructionResult",
    "Reliability",
    "Residual",
}


def test_the_surface_is_pinned():
    assert set(crnn_cli.__all__) == {*SURFACE, *CLASSES, "__version__"}
    for name, parameters in SURFACE.items():
        assert list(inspect.signature(getattr(crnn_cli, name)).parameters) == parameters.split(), name
    assert all(getattr(crnn_cli, name).__doc__ for name in (*SURFACE, *CLASSES))
    assert (ROOT / "crnn_cli" / "py.typed").is_file()


def test_importing_loads_nothing_heavy():
    code = "import sys, crnn_cli; assert not {'torch', 'numpy', 'nibabel'} & set(sys.modules); crnn_cli.load"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="recontsruct"):
        crnn_cli.recontsruct  # noqa: B018


def test_it_gives_what_the_command_gives(crnn, bundle, scan, tmp_path, capfd):
    _, _, file = scan
    ended = crnn("reconstruct", file, "-o", tmp_path / "out.nii.gz", "--model", bundle, "--complex")
    assert ended.code == 0, ended.err
    capfd.readouterr()
    calls = []
    result = crnn_cli.reconstruct(
        crnn_cli.load(file), model=crnn_cli.load_model(bundle), threads=1, progress=lambda *step: calls.append(step)
    )
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(result.images.array, nib.load(tmp_path / "out.nii.gz").get_fdata(dtype=np.complex64))
    assert calls[-1][0] == calls[-1][1] > 0
    assert result.report["format"] == 2
    assert result.reliability.residual.overall == result.report["reliability"]["residual"]["overall"] < 1e-5
    assert result.reliability.held_out.samples > 0
    assert result._repr_png_().startswith(b"\x89PNG")


def test_a_file_is_named_in_the_report_and_a_mask_may_be_an_array(bundle, scan):
    zero_filled, mask, file = scan
    named = crnn_cli.reconstruct(file, model=bundle)
    assert named.report["input"]["file"] == str(file)
    image = crnn_cli.Image(zero_filled, AFFINE, 0.03)
    masked = crnn_cli.reconstruct(image, model=bundle, mask=mask)
    np.testing.assert_array_equal(masked.images.array, named.images.array)


def test_kspace_in_memory_is_a_scan():
    cine = moving_cine(z=1)
    kspace = np.moveaxis(to_kspace(cine), (2, 3, 1, 0), (0, 1, 2, 3)).astype(np.complex64)  # slice, t, ky, kx
    mask = np.moveaxis(lines_mask(24, 20, 6), (3, 1, 0), (0, 1, 2))[..., 0].astype(bool)  # t, ky, kx
    raw = crnn_cli.from_kspace(kspace * mask, "slice,t,ky,kx", mask=mask, affine=AFFINE, frame_time=0.03)
    result = crnn_cli.reconstruct(raw, method="zero-filled")
    expected = to_images(to_kspace(cine) * lines_mask(24, 20, 6))
    np.testing.assert_allclose(np.abs(result.images.array), np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(result.images.affine, AFFINE)
    assert result.images.frame_time == 0.03
    with pytest.raises(crnn_cli.CrnnError, match="mask belongs to images"):
        crnn_cli.reconstruct(raw, mask=mask)


def test_a_result_is_saved_with_its_report_and_never_over_another(bundle, scan, tmp_path):
    result = crnn_cli.reconstruct(scan[2], model=bundle)
    crnn_cli.save(result, tmp_path / "made.nii.gz")
    assert {path.name for path in tmp_path.iterdir()} >= {"made.nii.gz", "made.json"}
    again = crnn_cli.load(tmp_path / "made.nii.gz")
    np.testing.assert_array_equal(again.array, np.abs(result.images.array))
    with pytest.raises(crnn_cli.CrnnError, match="exists already: replace it with force"):
        crnn_cli.save(result, tmp_path / "made.nii.gz")
    crnn_cli.save(result, str(tmp_path / "made.nii.gz"), force=True)


def test_labels_know_their_names(tmp_path):
    rng = np.random.default_rng(0)
    volume = crnn_cli.Image(rng.random((40, 36, 6), np.float32), np.diag([1.4, 1.4, 8, 1]))
    labels = crnn_cli.segment(volume, slices="axial")
    assert isinstance(labels, crnn_cli.LabelImage)
    assert set(labels.names.values()) == {"right ventricle", "myocardium", "left ventricle"}
    assert labels.array.shape == volume.array.shape
    crnn_cli.save(labels, tmp_path / "labels.nii.gz")
    with pytest.raises(crnn_cli.CrnnError, match="exists already"):
        crnn_cli.save(labels, tmp_path / "labels.nii.gz")
    same = crnn_cli.evaluate(tmp_path / "labels.nii.gz", labels)  # the file says that it holds labels
    assert same["compared"] == "labels"


def test_errors_speak_python(tmp_path):
    magnitude = save(tmp_path / "m.nii.gz", np.abs(moving_cine()))
    with pytest.raises(crnn_cli.CrnnError, match="undersample=8") as refused:
        crnn_cli.reconstruct(magnitude)
    assert "--" not in str(refused.value)
    with pytest.raises(crnn_cli.CrnnError, match="there is no model cine-crn: did you mean cine-crnn"):
        crnn_cli.load_model("cine-crn")
    with pytest.raises(crnn_cli.CrnnError, match="coils belongs to raw k-space"):
        crnn_cli.reconstruct(magnitude, coils=2, undersample=2)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">u2", ">i4", "f4", "f8", "?"])
def test_voxels_of_any_type_are_reconstructed_compared_and_measured(kind, tmp_path):
    """The quality is that of the same values in single precision."""
    dtype = np.dtype(kind)
    top = 1 if dtype.kind == "b" else min(np.iinfo(dtype).max, 60000) if dtype.kind in "iu" else 60000
    cine = np.abs(moving_cine(24, 24, 1, 4))
    voxels = np.rint(top * cine / cine.max()).astype(dtype)
    found = []
    for array in (voxels, voxels.astype(np.float32)):
        image = crnn_cli.Image(array, AFFINE, 0.03)
        result = crnn_cli.reconstruct(image, undersample=2, method="sliding-window", hold_out_folds=0)
        tested = crnn_cli.evaluate(image, result.images, kind="images", fit_scale=True)
        found.append((result.report["quality_against_truth"], tested))
    assert str(found[0]) == str(found[1])
