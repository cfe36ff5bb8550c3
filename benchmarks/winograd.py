"""A trial: 3 x 3 convolution with fewer multiplications (Winograd) by batched matrix products, against PyTorch's own.

F(m x m, 3 x 3) cuts the image into tiles of (m + 2)^2 pixels, overlapping by 2; in a transformed tile convolution is
a product for each place, so of 9 m^2 multiplications (m + 2)^2 are left: 2.25 times fewer for m = 2, 4 times for m = 4
(Lavin & Gray, CVPR 2016). The transforms are matrix products too, and the transformed tiles go through memory.

F(4, 3) along the columns alone halves them: rows are convolved as ever, so a grouped convolution of oneDNN, 3 x 1 with
six groups, does the work, and the transforms are sums. In a network, sums of convolutions would need one transform
back, and states could stay transformed.

python benchmarks/winograd.py [--size 128] [--features 64] [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

_B = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ],
}  # fmt: skip
_G = {
    2: [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
    ],
}  # fmt: skip
_A = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}


class Winograd:
    """A convolution of padding 1 with weights (K, C, 3, 3), for images (N, C, Y, X) with features innermost.

    Y and X must be divisible by m.
    """

    def __init__(self, weight: Tensor, m: int) -> None:
        self.m = m
        b, g, a = (torch.tensor(values[m], dtype=torch.float64) for values in (_B, _G, _A))
        self.into = torch.kron(b, b).to(weight.dtype)
        self.back = torch.kron(a, a).to(weight.dtype)
        weight_KC9 = weight.double().flatten(2)
        self.weight_PCK = torch.einsum("pq,kcq->pck", torch.kron(g, g), weight_KC9).to(weight.dtype).contiguous()

    def __call__(self, image_NCYX: Tensor) -> Tensor:
        m, tile = self.m, self.m + 2
        n, c, y, x = image_NCYX.shape
        padded = nn.functional.pad(image_NCYX.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        sn, sy, sx, sc = padded.stride()
        rows, columns = y // m, x // m
        tiles = padded.as_strided((tile, tile, n, rows, columns, c), (sy, sx, sn, m * sy, m * sx, sc))
        transformed = (self.into @ tiles.reshape(tile * tile, -1)).view(tile * tile, -1, c)
        product = torch.bmm(transformed, self.weight_PCK)
        made = (self.back @ product.flatten(1)).view(m, m, n, rows, columns, -1)
        return made.permute(2, 3, 0, 4, 1, 5).reshape(n, y, x, -1).permute(0, 3, 1, 2)


class Columns:
    """The same by F(4, 3) along X alone; X must be divisible by 4."""

    def __init__(self, weight: Tensor) -> None:
        signs = torch.tensor([1.0, 1, 1, 1, 1, -1], dtype=torch.float64)[:, None]  # of the last place: fewer sums
        g = torch.tensor(_G[4], dtype=torch.float64) * signs
        made = torch.einsum("pq,kcyq->pkcy", g, weight.double()).flatten(0, 1).unsqueeze(3)
        self.weight = made.to(weight.dtype).contiguous(memory_format=torch.channels_last)

    def __call__(self, image_NCYX: Tensor) -> Tensor:
        n, c, rows, columns = image_NCYX.shape
        shape = n, 6 * c, rows, columns // 4
        tiles = torch.empty(shape, dtype=image_NCYX.dtype, memory_format=torch.channels_last)
        self._into(image_NCYX.unflatten(3, (-1, 4)).unbind(4), tiles)
        m0, m1, m2, m3, m4, m5 = nn.functional.conv2d(tiles, self.weight, padding=(1, 0), groups=6).chunk(6, 1)
        p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        made = torch.empty_like(image_NCYX)
        first, second, third, fourth = made.unflatten(3, (-1, 4)).unbind(4)
        torch.add(m0, p, out=first).add_(r)
        torch.add(q, s, alpha=2, out=second)
        torch.add(p, r, alpha=4, out=third)
        torch.add(q, s, alpha=8, out=fourth).add_(m5)
        return made

    def _into(self, columns: tuple[Tensor, ...], tiles: Tensor) -> None:
        """Write the six combinations of tiles of four columns, with the columns on either side."""
        d1, d2, d3, d4 = columns
        t0, t1, t2, t3, t4, t5 = tiles.chunk(6, 1)
        even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
        torch.add(even, odd, out=t1)
        torch.sub(even, odd, out=t2)
        torch.sub(even, d2, out=t0)[..., 1:].add_(d4[..., :-1], alpha=4)
        torch.add(odd, d3, alpha=4, out=t5)[..., :-1].sub_(d1[..., 1:])
        torch.sub(d4, d2, out=even)
        torch.sub(d3, d1, out=odd)
        torch.add(even, odd, alpha=2, out=t3)
        torch.sub(even, odd, alpha=2, out=t4)


def milliseconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    print("| precision | form | ms | faster than direct | relative error |\n|---|---|---|---|---|")
    for name, kind in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        layer = nn.Conv2d(options.features, options.features, 3, padding=1, bias=False)
        image = torch.randn(2, options.features, options.size, options.size)
        exact = layer.double()(image.double())
        image = image.to(kind, memory_format=torch.channels_last)
        layer = layer.to(kind).to(memory_format=torch.channels_last)
        forms = {"direct": layer} | {f"F({m} x {m})": Winograd(layer.weight, m) for m in (2, 4)}
        forms["F(4) along columns"] = Columns(layer.weight)
        times: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(options.repeats):
            for form, function in forms.items():
                times[form].append(milliseconds(lambda f=function, i=image: f(i)))
        median = {form: statistics.median(found[1:]) for form, found in times.items()}
        for form, function in forms.items():
            error = float((function(image).double() - exact).norm() / exact.norm())
            print(f"| {name} | {form} | {median[form]:.1f} | {median['direct'] / median[form]:.2f} | {error:.1e} |")


if __name__ == "__main__":
    main()
