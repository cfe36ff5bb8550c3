"""What a run will need is said before it begins; a slice of raw k-space is in memory once while it is read."""

import json
import tracemalloc

import numpy as np
import pytest
import torch

from crnn_cli.data import mapped_arrays as scratch
from crnn_cli.data.raw_scan import RawSlice, image_to_kspace_along, kspace_to_image_along, remove_oversampling
from crnn_cli.io.kspace.checks import measured
from crnn_cli.io.kspace.npy import read_numpy
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.memory_estimate import estimate_memory
from crnn_cli.reconstruction.raw_source import CoilChoice, RawSliceSource
from crnn_cli.reconstruction.reconstruct import (
    ClassicalReconstructor,
    InferenceSettings,
    NetworkReconstructor,
    reconstruct,
)
from tests.support.cines import lines_mask, moving_cine, to_kspace

CPU = torch.device("cpu")


def network(memory=None, half=False):
    return NetworkReconstructor(
        CRNNMRI(CRNNMRIConfig(features=8)), InferenceSettings("view-shared", 1.0, 1, None, half, memory)
    )


def test_less_memory_puts_more_states_on_disk_until_nothing_fits(monkeypatch):
    shape, sequence = (1, 6, 64, 64), 6 * 64 * 64 * 8 * 4
    least = 64 * 64 * (4 * 2 * 8 * 4 + 160 * 6) + 2 * 6 * 64 * 64 * 8  # and the images before and after
    found = []
    for free in (10**12, least + 2 * sequence, least):
        monkeypatch.setattr("crnn_cli.reconstruction.memory_estimate.free_bytes", lambda device, limit, free=free: free)
        found.append(estimate_memory(network(), shape, 0, CPU))
        assert found[-1].peak - found[-1].held <= free
    assert [each.sequences for each in found] == [0, 3, CpuSchedule.SEQUENCES]
    assert [each.sequence_bytes for each in found] == [0, 3 * sequence, 5 * sequence]
    assert found[0].peak - found[0].held == least + 5 * sequence
    monkeypatch.setattr("crnn_cli.reconstruction.memory_estimate.free_bytes", lambda device, limit: least - 1)
    with pytest.raises(MemoryError, match="6 frames of 64 x 64"):
        estimate_memory(network(), shape, 0, CPU)
    assert estimate_memory(network(half=True), shape, 0, CPU).sequences < CpuSchedule.SEQUENCES


def test_more_coils_and_folds_need_more():
    for method in (ClassicalReconstructor("zero-filled", None, 0), ClassicalReconstructor("tv", None, 40), network()):
        needs = [
            each.peak - each.held
            for each in (
                estimate_memory(method, (1, 6, 64, 64), 0, CPU),
                estimate_memory(method, (4, 6, 64, 64), 0, CPU),
                estimate_memory(method, (4, 6, 64, 64), 1, CPU),
            )
        ]
        assert needs == sorted(set(needs))


def test_every_slice_needs_its_images_and_sensitivities_until_they_go_to_a_file(monkeypatch):
    method, shape = ClassicalReconstructor("zero-filled", None, 0), (4, 6, 64, 64)
    needs = [each.peak - each.held for each in (estimate_memory(method, shape, 0, CPU, slices=n) for n in (1, 2, 12))]
    image = 6 * 64 * 64 * 8
    assert needs[1] - needs[0] == 2 * image + 4 * image // 6
    assert needs[2] - needs[0] == 11 * (needs[1] - needs[0])
    two = estimate_memory(method, shape, 0, CPU, map_sets=2)
    assert two.peak - two.held > needs[0]
    monkeypatch.setattr(scratch, "LARGE", 12 * image)
    large = estimate_memory(method, shape, 0, CPU, slices=12)
    assert large.peak - large.held == needs[0] - 2 * image + 11 * (4 * image // 6)


def test_memory_of_a_slice_is_given_back_before_the_next(kspace, monkeypatch):
    """What stays of a slice are its images and sensitivities, not what was in memory to make them."""
    freed = []
    monkeypatch.setattr("crnn_cli.reconstruction.reconstruct.release_freed_memory", lambda: freed.append(1))
    slices = RawSliceSource(read_numpy(kspace[1], "slice,coil,t,ky,kx"), CoilChoice())
    tracemalloc.start()
    result = reconstruct(slices, ClassicalReconstructor("zero-filled", None, 0), CPU)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(freed) == slices.count
    kept = result.images_ZTYX.nbytes + result.zero_filled_ZTYX.nbytes
    assert held < 1.5 * (kept + sum(maps.nbytes for maps in slices.estimated_maps))


def test_too_little_is_told_before_a_slice_is_touched(crnn, scan, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(SingleCoilSource, "measure", lambda *arguments: pytest.fail("it began"))
    ended = crnn("reconstruct", scan[2], "--model", bundle, "--memory", "1K", "-o", tmp_path / "o.nii")
    assert (ended.code, "memory" in ended.err) == (5, True), ended.err


def test_a_report_says_what_was_expected_and_what_went_to_disk(crnn, scan, bundle, tmp_path, monkeypatch):
    for large, on_disk in ((2**26, 0), (1, 2 * scan[0].nbytes)):
        monkeypatch.setattr(scratch, "LARGE", large)
        ended = crnn("-v", "reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "o.nii", "--force", "--json")
        assert ended.code == 0, ended.err
        found = json.loads(ended.out)["memory"]
        assert found["estimated_bytes"] > scan[0].nbytes
        assert (found["states_on_disk_bytes"], found["images_on_disk_bytes"]) == (0, on_disk)
        assert "memory: about" in ended.err


@pytest.fixture
def kspace(tmp_path):
    """Return raw k-space (slice, coil, t, ky, kx), and its file."""
    cine = np.repeat(moving_cine(64, 60, 2, 6), 2, 0)
    one = (to_kspace(cine) * np.repeat(lines_mask(64, 60, 6), 2, 0)).transpose(2, 3, 1, 0).astype(np.complex64)
    many = np.stack([one * (1 + coil) for coil in range(8)], 1)
    np.save(tmp_path / "k.npy", many)
    return many, tmp_path / "k.npy"


def test_a_slice_of_raw_kspace_is_in_memory_once(kspace, monkeypatch):
    """Beside it there is one block of the file, whose size does not depend on the slice."""
    monkeypatch.setattr("crnn_cli.io.kspace.stored_array._BLOCK", 2**18)
    values, file = kspace
    scan = read_numpy(file, "slice,coil,t,ky,kx")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    read = scan.read(1)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    np.testing.assert_array_equal(read.kspace_CTYX, values[1])
    assert peak < 1.5 * values[1].nbytes
    again = scan.read(1)
    read.kspace_CTYX[:] = 0
    np.testing.assert_array_equal(again.kspace_CTYX, values[1])


def test_the_mask_is_that_of_all_coils_together(kspace):
    values = kspace[0][0]
    values *= np.logspace(-6, 0, 8, dtype=np.float32)[:, None, None, None]
    wanted = values[-1].any(axis=-1)
    values[-1, :, 30] = 0  # others measured it
    np.testing.assert_array_equal(measured(values)[..., 64], wanted)


def test_oversampling_is_cut_as_of_all_coils_at_once(kspace):
    values = kspace[0][0]
    read = RawSlice(values, np.ones((6, 60, 1), bool), values[:, 0])
    cut = remove_oversampling(read, 0.5)
    wanted = image_to_kspace_along(kspace_to_image_along(values, -1)[..., 32:96], -1)
    np.testing.assert_array_equal(cut.kspace_CTYX, wanted)
    np.testing.assert_array_equal(cut.calibration_CYX, wanted[:, 0])
