"""Slices of raw scans: noise made white, dead coils left out, masks and facts kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan, RawSlice
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.map_sets import estimate_map_sets
from crnn_cli.reconstruction.raw_source import CoilChoice, RawSliceSource
from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor, reconstruct

CPU = torch.device("cpu")
MIXING = np.array([[1, 0.4j, 0.1], [0, 2, 0.3 - 0.2j], [0, 0, 0.5]])


def scan(noise_CC=None, coils=3, slices=2, frames=2, seed=0):
    """Return a scan of noise alone, its covariance that of MIXING."""
    rng = np.random.default_rng(seed)
    shape = (slices, coils, frames, 40, 40)
    white = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    kspace = np.einsum("cd,zdtyx->zctyx", MIXING[:coils, :coils], white).astype(np.complex64)
    masks = np.ones((slices, frames, 40, 1), bool)
    masks[1:, :, :5] = False
    kspace = kspace * masks[:, None]
    if noise_CC is not None:
        kspace[:, np.diag(noise_CC) == 0] = 0
    geometry = Image(np.zeros((40, 40, slices, frames), np.float32), np.eye(4))
    return RawScan(
        "test", "", kspace.shape, geometry, (2, 1, 0), lambda z: RawSlice(kspace[z], masks[z]), noise_CC=noise_CC
    )


def covariance(kspace_CTYX):
    flat = kspace_CTYX.flatten(1).numpy()
    return flat @ flat.conj().T / flat.shape[1]


@pytest.mark.parametrize("coils", [None, 2])
def test_noise_is_white_after_the_noise_scan_was_used(coils):
    noise = (2 * MIXING @ MIXING.conj().T).astype(np.complex64)
    slices = RawSliceSource(scan(noise), CoilChoice(coils))
    measurement = slices.measure(0, CPU)
    found = covariance(measurement.kspace_BCTYX[0])
    scale = found[0, 0].real
    np.testing.assert_allclose(found / scale, np.eye(coils or 3), atol=0.08)
    assert measurement.facts["whitened"]
    assert measurement.facts["used"] == (coils or 3)


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([1e16, 1e19, 1e30, 3e38, float("inf"), float("nan")]), st.integers(0, 2), st.integers(0, 39),
    st.integers(0, 39), st.sampled_from([None, 2]),
)  # fmt: skip
def test_a_sample_that_cannot_be_computed_with_is_named(value, coil, y, x, coils):
    data = scan()
    spoiled = data.read(1)
    spoiled.kspace_CTYX[coil, 0, y, x] = value
    slices = RawSliceSource(replace(data, read=lambda z: spoiled), CoilChoice(coils))
    with pytest.raises(UnsupportedDataError, match=f"largest sample of slice 2 in coil {coil}"):
        slices.measure(1, CPU)


@pytest.mark.parametrize("method", ["zero-filled", "sense", "tv", "llr"])
def test_a_large_sample_that_can_be_is_no_traceback(method):
    data = scan()
    spoiled = data.read(0)
    spoiled.kspace_CTYX[1, 0, 20, 20] = 1e14
    slices = RawSliceSource(replace(data, read=lambda z: spoiled), CoilChoice(2))
    found = reconstruct(slices, ClassicalReconstructor(method, None, 3 if method != "zero-filled" else 0), CPU)
    assert np.isfinite(found.images_ZTYX).all()


def test_without_a_noise_scan_the_samples_are_as_they_were():
    data = scan()
    slices = RawSliceSource(data, CoilChoice())
    measured = slices.measure(0, CPU)
    np.testing.assert_array_equal(measured.kspace_BCTYX[0].numpy(), data.read(0).kspace_CTYX)
    assert not measured.facts["whitened"]
    maps = measured.maps_BCYX
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(1, 40, 40))


def test_a_coil_that_was_not_connected_is_left_out():
    noise = (2 * MIXING @ MIXING.conj().T).astype(np.complex64)
    noise[1], noise[:, 1] = 0, 0
    slices = RawSliceSource(scan(noise), CoilChoice())
    measurement = slices.measure(0, CPU)
    assert measurement.kspace_BCTYX.shape[1] == 2
    assert (measurement.facts["coils"], measurement.facts["used"]) == (3, 2)
    with pytest.raises(UnsupportedDataError, match="no coil was connected"):
        RawSliceSource(scan(np.zeros((3, 3), np.complex64)), CoilChoice()).measure(0, CPU)


def test_maps_go_through_the_same_matrix_as_the_samples():
    noise = (2 * MIXING @ MIXING.conj().T).astype(np.complex64)
    maps = np.random.default_rng(1).standard_normal((1, 3, 40, 40)).astype(np.complex64) + 2
    image = np.random.default_rng(2).standard_normal((2, 40, 40)) + 0j
    seen = maps[0][:, None] * image
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(seen, (-2, -1)), norm="ortho"), (-2, -1))
    data = scan(noise, slices=1)
    data = RawScan(
        "", "", (1, *kspace.shape), data.geometry, (2, 1, 0),
        lambda z: RawSlice(kspace.astype(np.complex64), np.ones((2, 40, 1), bool)), noise_CC=noise,
    )  # fmt: skip
    measured = RawSliceSource(data, CoilChoice(maps=maps)).measure(0, CPU)
    made = measured.encoding().zero_filled(measured.kspace_BCTYX)[0]
    again = measured.encoding().squared_residual(made[None], measured.kspace_BCTYX)
    assert again[0] < 1e-8 * again[1]
    assert np.corrcoef(made.abs().numpy().ravel(), np.abs(image).ravel())[0, 1] > 0.8


def test_masks_and_facts_of_all_slices_come_with_the_reconstruction():
    result = reconstruct(RawSliceSource(scan(), CoilChoice()), ClassicalReconstructor("zero-filled", None, 0), CPU)
    assert result.mask_ZTYX.sum(axis=(1, 2, 3)).tolist() == [80, 70]
    assert [facts["coils"] for facts in result.facts] == [3, 3]


def test_sensitivities_are_estimated_once_for_each_slice(monkeypatch):
    slices, calls = RawSliceSource(scan((MIXING @ MIXING.conj().T).astype(np.complex64)), CoilChoice()), []

    def counted(*given):
        calls.append(1)
        return estimate_map_sets(*given)

    monkeypatch.setattr("crnn_cli.reconstruction.coil_preparation.estimate_map_sets", counted)
    first = [slices.measure(z, CPU) for z in range(2)]
    again = [slices.measure(z, CPU) for z in range(2)]
    assert len(calls) == 2
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.maps_BCYX, other.maps_BCYX)
        assert torch.equal(one.kspace_BCTYX, other.kspace_BCTYX)
        assert (one.deviation, one.facts) == (other.deviation, other.facts)
