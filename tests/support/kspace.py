"""Multi-coil k-space with known truth, and files of it in the formats that scans come in."""

import functools
import math

import h5py
import numpy as np
import scipy.io

from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice

FASTMRI = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{kx}</x><y>{ky}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rx}</x><y>{ry}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{wx}</x><y>{wy}</y><z>5</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""


@functools.cache
def kspace(slices=3, coils=4, frames=5, lines=24, samples=32, snr=math.inf):
    """Return fully sampled k-space of the phantom, (slice, coil, t, ky, kx) complex64."""
    grid = Grid(samples, lines, max(360 / samples, 264 / lines))
    scan = PhantomScan(grid, frames, slices, coils, snr=snr, seed=5)
    whole = np.stack([simulate_slice(scan, z).kspace_CTYX.numpy() for z in range(slices)])
    whole.setflags(write=False)
    return whole


def lines(frames=5, n=24, seed=0, share=0.3):
    """Return which lines are measured (t, ky), the middle four always."""
    mask = np.random.default_rng(seed).random((frames, n)) < share
    mask[:, n // 2 - 2 : n // 2 + 2] = True
    return mask


def write_npy(path, k_ZCTYX):
    np.save(path, k_ZCTYX)
    return path


def write_bart(path, k_ZCTYX):
    """Write .cfl and .hdr: read, phase 1, -, coil, ..., time (10), ..., slice (13)."""
    z, c, t, y, x = k_ZCTYX.shape
    dims = [x, y, 1, c, 1, 1, 1, 1, 1, 1, t, 1, 1, z, 1, 1]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    k_ZCTYX.swapaxes(1, 2).astype("<c8").tofile(path.with_suffix(".cfl"))
    return path.with_suffix(".cfl")


def compound(values):
    """Return complex values as MATLAB 7.3 writes them."""
    kind = np.float32 if values.dtype == np.complex64 else np.float64
    out = np.empty(values.shape, [("real", kind), ("imag", kind)])
    out["real"], out["imag"] = values.real, values.imag
    return out


def matlab(k_ZCTYX):
    """Return k-space in MATLAB's order (kx, ky, coil, slice, t)."""
    return k_ZCTYX.transpose(4, 3, 1, 0, 2)


def write_v73(path, **arrays):
    """Write MATLAB 7.3: a header of 512 bytes before HDF5, axes reversed, complex numbers as compounds."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            stored = compound(values) if np.iscomplexobj(values) else values
            file[name] = np.ascontiguousarray(stored.T)
            file[name].attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: a day".ljust(116))
        stream.write(bytes(8) + b"\x00\x02IM")
    return path


def write_v5(path, **arrays):
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


def write_fastmri(path, k_ZCTYX, mask=None, **sizes):
    """Write the first frame as fastMRI does, (slice, coil, readout, phase)."""
    z, _, _, y, x = k_ZCTYX.shape
    sizes = {"kx": x, "ky": y, "fx": 2.0 * x, "fy": 3.0 * y, "rx": x, "ry": y, "wx": 2.0 * x, "wy": 3.0 * y} | sizes
    with h5py.File(path, "w") as file:
        file["kspace"] = k_ZCTYX[:, :, 0].swapaxes(-1, -2)
        file["ismrmrd_header"] = FASTMRI.format(**sizes)
        file["reconstruction_rss"] = np.zeros((z, sizes["rx"], sizes["ry"]), np.float32)
        if mask is not None:
            file["mask"] = mask
    return path


def write_ismrmrd(path):
    """Write what tells an ISMRMRD file: a group with data and xml."""
    with h5py.File(path, "w") as file:
        file["dataset/data"] = np.zeros(1)
        file["dataset/xml"] = FASTMRI
    return path
