"""The mean over flipped copies is true to the samples, and free of what a method does otherwise in each of them."""

import json

import pytest
import torch

from crnn_cli.mri.coils import normalise_maps
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.ensemble import COPIES, VIEWS, Ensemble
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.memory_estimate import estimate_memory
from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor, NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings
from tests.assessment.test_held_out import Guess
from tests.reconstruction.test_memory_estimate import network

CPU = torch.device("cpu")


def complex_noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def measured(coils, lines=12, columns=9):
    """Return data of several frames, the lines of each its own, and the images behind them."""
    truth = complex_noise(1, 3, lines, columns)
    mask = (torch.rand(1, 3, lines, 1, generator=torch.Generator().manual_seed(1)) < 0.6).float()
    maps = None if coils == 1 else normalise_maps(complex_noise(coils, lines, columns, seed=2))[None]
    seen = truth[:, None] if maps is None else truth[:, None] * maps[:, :, None]
    return SliceMeasurement(image_to_kspace(seen) * mask[:, None], mask, maps, 0.1), truth


def untouched(seen):
    return seen.encoding().zero_filled(seen.kspace_BCTYX)


@pytest.mark.parametrize("count", range(1, COPIES + 1))
@pytest.mark.parametrize("coils", [1, 3])
def test_a_method_that_is_symmetric_gives_the_same_images(coils, count):
    data, _ = measured(coils)
    found = Ensemble(Guess(untouched), count)(data, lambda: None).images_BTYX
    torch.testing.assert_close(found, untouched(data), atol=1e-5, rtol=0)


@pytest.mark.parametrize("coils", [1, 3])
def test_copies_are_scans_of_images_flipped_from_edge_to_edge_with_a_phase_of_their_own(coils):
    data, truth = measured(coils)
    stub = Guess(untouched)
    Ensemble(stub, COPIES)(data, lambda: None)
    assert len({bytes(seen.kspace_BCTYX.numpy().tobytes()) for seen in stub.seen}) == COPIES
    for quarters, (seen, axes) in enumerate(zip(stub.seen, VIEWS, strict=True)):
        image = truth.flip(axes) * 1j**quarters
        encoding = seen.encoding()
        torch.testing.assert_close(
            encoding.forward(image), encoding.to_data_space(seen.kspace_BCTYX), atol=1e-5, rtol=0
        )
        assert seen.deviation == data.deviation


def test_what_is_added_to_the_real_part_is_averaged_out():
    data, _ = measured(1)

    def brighter(seen):
        return untouched(seen) + 1

    error = (Ensemble(Guess(brighter), COPIES)(data, lambda: None).images_BTYX - untouched(data)).abs().max()
    assert float(error) < 1e-5


def test_progress_counts_all_copies():
    told = []
    method = Ensemble(Guess(untouched), 3)
    method(measured(1)[0], lambda: told.append(1))
    assert (method.steps, len(told)) == (3, 3)


def test_a_number_of_copies_that_there_are_not_is_a_mistake():
    for count in (0, COPIES + 1):
        with pytest.raises(ValueError, match="copies"):
            Ensemble(Guess(untouched), count)


@pytest.mark.parametrize("method", [network(), ClassicalReconstructor("tv", None, 40)])
def test_copies_need_memory_once(method):
    needs = [(each := estimate_memory(Ensemble(method, n), (4, 6, 64, 64), 0, CPU)).peak - each.held for n in (1, 2, 4)]
    alone = estimate_memory(method, (4, 6, 64, 64), 0, CPU)
    assert needs[0] == alone.peak - alone.held
    assert needs[1] == needs[2] == needs[0] + 8 * 6 * 64 * 64 * (4 + 2)


def test_the_command_averages_and_says_so(crnn, scan, bundle, tmp_path):
    reports, images = [], []
    for copies in ("1", "4"):
        out = tmp_path / f"{copies}.nii"
        ended = crnn("reconstruct", scan[2], "--model", bundle, "--ensemble", copies, "-o", out, "--json")
        assert ended.code == 0, ended.err
        reports.append(json.loads(ended.out))
        images.append(out.read_bytes())
    assert [found["ensemble"] for found in reports] == [1, 4]
    assert images[0] != images[1]
    assert "mean over 4 flipped copies" in ended.err
    residuals = [found["reliability"]["residual"]["overall"] for found in reports]
    assert residuals[1] == pytest.approx(residuals[0], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ensemble", "2", "--method", "tv"], "--ensemble belongs to --method crnn"),
        (["--ensemble", "2", "--iterations", "0"], "with --iterations 0 none is used"),
        (["--ensemble", "5"], "less than or equal to 4"),
        (["--ensemble", "0"], "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(crnn, scan, bundle, tmp_path, arguments, said):
    ended = crnn("reconstruct", scan[2], *arguments, "-o", tmp_path / "o.nii")
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not list(tmp_path.glob("o*"))


def test_every_copy_comes_back_in_the_scale_of_the_data():
    inner = NetworkReconstructor(lambda *given: given[0], InferenceSettings("zero-filled", 1.0, 1, 0.0))
    data, _ = measured(1)
    averaged, single = (method(data, lambda: None).images_BTYX for method in (Ensemble(inner, 4), inner))
    torch.testing.assert_close(averaged, single, atol=1e-5, rtol=0)
