"""Classical reconstructions agree with BART's, where it is installed."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from crnn_cli.mri.classical import run_method
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.total_variation.admm import tv

pytestmark = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not on the PATH")
PLACES = (3, 10, 1, 2)  # BART's dimensions of coil, time, y, x


def bart(folder, command, shape, **arrays):
    """Run BART on arrays (coil, time, y, x) by name; return its `out`."""
    for name, array in arrays.items():
        dims = [1] * 16
        for place, length in zip(PLACES, array.shape, strict=True):
            dims[place] = length
        (folder / f"{name}.hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
        array.transpose(1, 0, 3, 2).astype(np.complex64).tofile(folder / f"{name}.cfl")
    subprocess.run(["bart", *command.split()], cwd=folder, check=True, capture_output=True)
    coils, frames, lines, columns = shape
    found = np.fromfile(folder / "out.cfl", np.complex64).reshape(frames, coils, columns, lines)
    return torch.from_numpy(found.transpose(1, 0, 3, 2).copy())


def scan(coils, frames):
    """Return maps, mask and noisy k-space of a bright square that moves, 16 x 12; BART wants multiples of four."""
    g = torch.Generator().manual_seed(5)
    truth = torch.full((1, frames, 16, 12), 0.5, dtype=torch.complex64)
    for t in range(frames):
        truth[:, t, 3 + t : 9 + t, 4:9] = 1 + 0.5j
    few = torch.randn(1, coils, 3, 3, dtype=torch.complex64, generator=g)
    maps = image_to_kspace(torch.nn.functional.pad(few, (5, 4, 7, 6)))
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = torch.rand(1, frames, 16, 1, generator=g) < 0.5
    mask[:, :, 7:10] = True
    kspace = image_to_kspace(maps[:, :, None] * truth[:, None]) * mask[:, None]
    noise = 0.01 * torch.randn(kspace.shape, dtype=torch.complex64, generator=g)
    return maps, mask, kspace + noise * mask[:, None]


@pytest.mark.parametrize("weight", [0.01, 0.1])
def test_sense(tmp_path, weight):
    maps, mask, kspace = scan(coils=4, frames=1)
    pattern = mask.expand(1, 1, 16, 12).numpy()
    arrays = {"kspace": kspace[0].numpy(), "maps": maps[0, :, None].numpy(), "pattern": pattern}
    theirs = bart(tmp_path, f"pics -w 1 -l2 -r {weight} -i 100 -p pattern kspace maps out", (1, 1, 16, 12), **arrays)
    ours = run_method("sense", Encoding(mask, maps), kspace, weight, 100)
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_temporal_total_variation(tmp_path):
    """Our image is no worse than BART's by the objective, and much the same."""
    maps, mask, kspace = scan(coils=4, frames=6)
    pattern = mask.expand(1, 6, 16, 12).numpy()
    arrays = {"kspace": kspace[0].numpy(), "maps": maps[0, :, None].numpy(), "pattern": pattern}
    theirs = bart(tmp_path, "pics -w 1 -i 200 -R T:1024:0:0.02 -p pattern kspace maps out", (1, 6, 16, 12), **arrays)
    encoding = Encoding(mask, maps)
    data = encoding.to_data_space(kspace)
    ours = tv(encoding, data, 0.02, 300, space=0.0)

    def objective(image):
        misfit = (encoding.forward(image) - data).abs().square().sum() / 2
        return float(misfit + 0.02 * (image[:, 1:] - image[:, :-1]).abs().sum())

    assert objective(ours) <= objective(theirs) * 1.001
    assert (ours - theirs).norm() < 0.05 * theirs.norm()
