"""Files that other programs cut while they are read: an error or all values, and no signal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.data import mapped_arrays
from crnn_cli.errors import UnreadableError
from crnn_cli.io.formats import load
from crnn_cli.io.kspace import stored_array
from crnn_cli.io.kspace.stored_array import read_part


def exit_status(action: Callable[[], object]) -> int:
    """Run an action in a child process: 0 if it ends well, 3 if it refuses; negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        action()
        code = 0
    except UnreadableError:
        code = 3
    finally:
        os._exit(code)


def test_a_large_image_that_is_cut_after_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_arrays, "LARGE", 2**16)
    path = tmp_path / "image.nii"
    array = np.random.default_rng(0).normal(size=(64, 64, 4, 6)).astype(np.float32)
    nib.Nifti1Image(array, np.eye(4)).to_filename(path)

    def cut() -> None:
        image = load(path).image
        os.truncate(path, 1000)
        assert np.array_equal(image.array, array)

    assert exit_status(cut) == 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_kspace_that_is_cut_after_it_was_opened(order: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.npy"
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 4, 64, 48)) * np.outer(np.hanning(64), np.hanning(48)) ** 4
    np.save(path, np.asarray(values.astype(np.complex64), order=order))  # type: ignore[call-overload]

    def cut() -> None:
        scan = load(path, axes="slice,coil,t,ky,kx")
        os.truncate(path, 1000)
        for z in range(3):
            scan.read(z)

    assert exit_status(cut) == 3


@given(data=st.data(), order=st.sampled_from("CF"), block=st.sampled_from([1, 100, 2**26]))
def test_a_part_is_that_of_the_whole(
    data: st.DataObject, order: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For all shapes, orders, indices, and sizes of blocks."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    whole = np.arange(np.prod(shape), dtype=np.complex64).reshape(shape)
    path = tmp_path_factory.mktemp("part") / "values"
    path.write_bytes(b"12345" + whole.tobytes(order))  # type: ignore[arg-type]
    index = tuple(
        data.draw(st.one_of(st.integers(0, n - 1), st.just(slice(None)), st.slices(n), st.integers(-n, -1)))
        for n in shape
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_array, "_BLOCK", block)
        part = read_part(path, "<c8", 5, shape, order, index)  # type: ignore[arg-type]
        np.testing.assert_array_equal(part, whole[index])
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(OSError, match="too early"):
            read_part(path, "<c8", 5, shape, order, (slice(None),) * len(shape))  # type: ignore[arg-type]
