"""Sampling masks in files: NIfTI and NumPy say the same, other formats are named."""

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.nifti.image import write_image
from crnn_cli.workflows.reconstruct.scan import ScanRequest, load_scan
from tests.support.cines import AFFINE, lines_mask, moving_cine, to_images, to_kspace


@pytest.fixture
def scan(tmp_path):
    images = to_images(to_kspace(moving_cine(24, 20, 1, 6)) * lines_mask(24, 20, 6)).astype(np.complex64)
    write_image(Image(images, AFFINE, 0.03), tmp_path / "scan.nii", "test")
    return tmp_path / "scan.nii"


def masks_of(scan, mask, axes=None):
    return load_scan(ScanRequest(scan, mask=mask, axes=axes)).slices.acquisition.mask_ZTYX


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float64])
def test_a_mask_may_be_a_numpy_file_of_axes_x_y_z_t(scan, kind):
    mask = np.asarray(lines_mask(24, 20, 6)).astype(kind)
    np.save(scan.with_name("mask.npy"), mask)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), scan.with_name("mask.nii"))
    found = masks_of(scan, scan.with_name("mask.npy"))
    np.testing.assert_array_equal(found, masks_of(scan, scan.with_name("mask.nii")))
    np.testing.assert_array_equal(found[0, :, :, 0], mask[0, :, 0].T)


def test_axes_of_a_numpy_mask_are_those_of_the_scan_where_it_has_as_many(tmp_path, scan):
    images = nib.load(scan).get_fdata(dtype=np.complex64)
    nib.save(nib.Nifti1Image(images[:, :, 0], AFFINE), tmp_path / "xyt.nii")
    np.save(tmp_path / "mask.npy", lines_mask(24, 20, 6)[:, :, 0])
    found = masks_of(tmp_path / "xyt.nii", tmp_path / "mask.npy", "x,y,t")
    np.testing.assert_array_equal(found[0, :, :, 0], lines_mask(24, 20, 6)[0, :, 0].T)


def test_masks_that_cannot_be_read_are_named_with_what_to_do(scan):
    np.savez(scan.with_name("mask.npz"), mask=lines_mask(24, 20, 6))
    with pytest.raises(UnsupportedDataError, match=r"mask\.npz is NumPy archive, and no mask .* NIfTI or \.npy"):
        masks_of(scan, scan.with_name("mask.npz"))
    np.save(scan.with_name("words.npy"), np.array(["a", "b"]))
    with pytest.raises(UnsupportedDataError, match="not a mask of 0 and 1"):
        masks_of(scan, scan.with_name("words.npy"))
    whole = scan.with_name("words.npy").read_bytes()
    scan.with_name("part.npy").write_bytes(whole[:-3])
    with pytest.raises(UnreadableError, match="not a whole NumPy file"):
        masks_of(scan, scan.with_name("part.npy"))


def test_a_mask_of_x_y_t_is_refused_with_the_axes_that_are_wanted(scan):
    np.save(scan.with_name("mask.npy"), lines_mask(24, 20, 6)[:, :, 0])
    with pytest.raises(UnsupportedDataError, match=r"\(24, 20, 6\), the series \(24, 20, 1, 6\): .* axes x, y, z, t"):
        masks_of(scan, scan.with_name("mask.npy"))
