"""Drawn slices and ConvLSTM: a network that labels all slices of a stack from those that someone drew.

One structure at a time, whatever it is. Each slice is seen beside the nearest drawn slice before it (a) and after it
(b), and a recurrent network walks through the stack in both directions, past drawn and other slices:

    f_s = look(image_s)                                           appearance, at a quarter of the size
    w_s = softmax(likeness f_s . f_a - nearness way^2) d_a        distances of a, fetched from where it looks alike
    e_s = encode(image_s, d_s, w_s, image_a, d_a, image_b, d_b, how near a and b are, distances of other structures)
    h_s = ConvLSTM(e_s, state)                                    in ascending and in descending order
    logit_s = scale * d_s + decode(e_s, h_s ascending, h_s descending)

d_s is the signed distance to the outline, interpolated between drawn slices (`crnn_cli.labels.shape_interpolation`), in
pixels. The last layer begins at zero: the untrained network gives the interpolation itself, and training corrects it.

Legend: B stack, S slice, N = B * S, F feature, G gate, P pixel at a quarter of the size, Y row, X column.

References
----------
Cai, Lu, Xie, Xing, Yang: "Improving deep pancreas segmentation in CT and MRI images via recurrent neural contextual
learning and direct loss function", MICCAI 2017 (ConvLSTM through slices).
Yeung, Namburete, Xie: "Sli2Vol: annotate a 3D volume from a single slice with self-supervised learning", MICCAI 2021
(labels fetched by likeness of features).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crnn_cli.networks.convlstm import ConvLSTMCell

LARGEST_DISTANCE = 16.0
"""Distances beyond it, in pixels, are all the same to the network."""
_UNIT = 4.0  # pixels; distances are divided by it, so that they are about as large as intensities
_QUARTER = 4  # the likeness is computed, and the ConvLSTM walks, at a quarter of the size
_STEP = 8  # padded sides divide by it
_INPUTS = 11  # of the encoder; listed at the top
_AT_ONCE = 2**18  # at inference, pixels of the slices that are encoded or decoded at once; at least one slice


@dataclass(frozen=True)
class DrawnCLSTMConfig:
    """Sizes of the network.

    Attributes
    ----------
    width : features at full size; they double from scale to scale.
    hidden : features of the ConvLSTM, per direction.
    keys : features whose likeness is compared.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    width: int = 16
    hidden: int = 48
    keys: int = 32

    def __post_init__(self) -> None:
        if self.width % 8 or not 8 <= self.width <= 64:
            raise ValueError(f"width is {self.width}; it must divide by 8, from 8 to 64")
        if not 1 <= self.hidden <= 256 or not 1 <= self.keys <= 256:
            raise ValueError("hidden and keys go from 1 to 256")


class DrawnCLSTM(nn.Module):
    """The network at the top of this file, for stacks of any size.

    >>> network = DrawnCLSTM(DrawnCLSTMConfig(width=8, hidden=8)).eval()
    >>> image_BSYX, distance_BSYX = torch.rand(1, 5, 30, 20), torch.randn(1, 5, 30, 20)
    >>> known_BS = torch.tensor([[True, False, False, False, True]])
    >>> network(image_BSYX, distance_BSYX, known_BS).shape
    torch.Size([1, 5, 30, 20])
    """

    def __init__(self, config: DrawnCLSTMConfig) -> None:
        super().__init__()
        self.config = config
        one, two, four = config.width, 2 * config.width, 4 * config.width
        self.look = nn.Sequential(
            _block(1, one), nn.AvgPool2d(2), _block(one, two), nn.AvgPool2d(2), _block(two, four),
            nn.Conv2d(four, config.keys, 1),
        )  # fmt: skip
        self.likeness = nn.Parameter(torch.tensor(10.0))
        self.nearness = nn.Parameter(torch.tensor(-2.0))
        self.encode = nn.ModuleList([_block(_INPUTS, one), _block(one, two), _block(two, four), _block(four, 6 * one)])
        self.cells = nn.ModuleList(ConvLSTMCell(four, config.hidden) for _ in range(2))
        self.decode = nn.ModuleList(
            [_block(one + two, one), _block(two + four, two), _block(4 * one + 6 * one + 2 * config.hidden, four)]
        )
        self.correct = nn.Conv2d(one, 1, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        for parameter in self.correct.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, image_BSYX: Tensor, distance_BSYX: Tensor, known_BS: Tensor, others_BSYX: Tensor | None = None
    ) -> Tensor:
        """Compute logits of the structure.

        Parameters
        ----------
        image_BSYX : slices, intensities scaled to about 0 ... 1.
        distance_BSYX : signed distances of the structure in pixels, positive inside: of drawn slices the measured ones,
            of others interpolated.
        known_BS : which slices are drawn, at least one of each stack.
        others_BSYX : the same distances of all other drawn structures together (the largest); None where there is none.

        Returns
        -------
        Logits (B, S, Y, X).
        """
        stack = _Stack.padded(image_BSYX, distance_BSYX, known_BS, others_BSYX)
        every = torch.arange(len(stack.image_N1YX), device=image_BSYX.device)
        scales = self._encoded(stack, every)
        hidden_NFYX = self._walked(scales[2], *known_BS.shape)
        logits_NYX = self._decoded(stack, every, scales, hidden_NFYX)
        logits_BSYX: Tensor = logits_NYX.unflatten(0, known_BS.shape)
        return logits_BSYX[..., : image_BSYX.shape[-2], : image_BSYX.shape[-1]]

    @torch.no_grad()
    def follow(
        self, image_SYX: Tensor, distance_SYX: Tensor, known_S: Tensor, others_SYX: Tensor | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:  # fmt: skip
        """Compute logits of one stack without gradients; of long stacks only features at a quarter size are kept.

        Drawn slices are walked past, but not decoded: their labels are known.

        Parameters
        ----------
        image_SYX, distance_SYX, known_S, others_SYX : as in `forward`, of one stack.
        progress : called with (slices encoded or decoded, how many in all).

        Returns
        -------
        Logits (S, Y, X), float32; 0 in drawn slices.
        """
        others = None if others_SYX is None else others_SYX[None]
        stack = _Stack.padded(image_SYX[None], distance_SYX[None], known_S[None], others)
        slices, (rows, columns) = len(image_SYX), image_SYX.shape[1:]
        at_once = max(1, _AT_ONCE // stack.image_N1YX[0].numel())
        parts = torch.arange(slices, device=image_SYX.device).split(at_once)
        quarter: list[Tensor] = []
        scales: list[Tensor] = []
        for part in parts:
            scales = self._encoded(stack, part)
            quarter.append(scales[2])
            progress(sum(map(len, quarter)), 2 * slices)
        hidden_NFYX = self._walked(torch.cat(quarter), 1, slices)
        logits_SYX = torch.zeros((slices, *stack.image_N1YX.shape[-2:]), device=image_SYX.device)
        for part in parts:
            wanted = part[~known_S[part]]
            if len(wanted):
                kept = [each[wanted] for each in scales] if len(parts) == 1 else self._encoded(stack, wanted)
                logits_SYX[wanted] = self._decoded(stack, wanted, kept, hidden_NFYX[wanted]).float()
            progress(slices + int(part[-1]) + 1, 2 * slices)
        return logits_SYX[:, :rows, :columns]

    def _encoded(self, stack: _Stack, part: Tensor) -> list[Tensor]:
        """Features of some slices at every scale, full size first.

        Parameters
        ----------
        part : numbers of the slices among all.
        """
        fetched = [self._fetched(stack, part, drawn[part]) for drawn in (stack.before_N, stack.after_N)]
        x = torch.cat([*fetched, stack.inputs(part)], dim=1).contiguous(memory_format=torch.channels_last)
        scales: list[Tensor] = []
        for block in self.encode:
            x = block(F.avg_pool2d(x, 2) if scales else x)
            scales.append(x)
        return scales

    def _fetched(self, stack: _Stack, part: Tensor, drawn: Tensor) -> Tensor:
        """Distances of drawn slices, moved to where slices look alike: (N, 1, Y, X).

        Parameters
        ----------
        part, drawn : numbers of the slices, and of the drawn slice of each.
        """
        images = torch.unique(torch.cat([part, drawn]), sorted=True)
        look_NFYX = self.look(stack.image_N1YX[images])
        with torch.autocast(look_NFYX.device.type, enabled=False):
            found_NFYX = F.normalize(look_NFYX.to(self.likeness), dim=1)
            query, key = (found_NFYX[torch.searchsorted(images, numbers)] for numbers in (part, drawn))
            value = F.pixel_unshuffle(stack.distance_N1YX[drawn].to(self.likeness), _QUARTER)
            queries, keys = self._with_places(query, key)
            moved_NPF = F.scaled_dot_product_attention(queries, keys, value.flatten(2).mT, scale=1.0)
            fetched: Tensor = F.pixel_shuffle(moved_NPF.mT.unflatten(2, query.shape[-2:]), _QUARTER)
        return fetched

    def _with_places(self, query_NFYX: Tensor, key_NFYX: Tensor) -> tuple[Tensor, Tensor]:
        """Features as (N, P, F + 3), whose products are the likeness less the squared way between the two places."""
        rows, columns = query_NFYX.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(rows, device=query_NFYX.device) - rows / 2,
            torch.arange(columns, device=query_NFYX.device) - columns / 2,
            indexing="ij",
        )
        near = self.nearness.exp()
        from_P3 = torch.stack([2 * near * y, 2 * near * x, -near.expand(rows, columns)], dim=2).flatten(0, 1)
        to_P3 = torch.stack([y, x, y**2 + x**2], dim=2).flatten(0, 1)
        count = len(query_NFYX)
        queries = torch.cat([self.likeness * query_NFYX.flatten(2).mT, from_P3.expand(count, -1, -1)], dim=2)
        keys = torch.cat([key_NFYX.flatten(2).mT, to_P3.expand(count, -1, -1)], dim=2)
        return queries, keys

    def _walked(self, x_NFYX: Tensor, batch: int, slices: int) -> Tensor:
        """Hidden states of both directions, (N, 2 F, Y, X)."""
        found = []
        for direction, cell in enumerate(self.cells):
            assert isinstance(cell, ConvLSTMCell)
            gates_SBGYX = cell.input_gates(x_NFYX).unflatten(0, (batch, slices)).unbind(1)
            state, hidden = None, []
            for gates_BGYX in reversed(gates_SBGYX) if direction else gates_SBGYX:
                state = cell(gates_BGYX, state)
                hidden.append(state[0])
            found.append(torch.stack(hidden[::-1] if direction else hidden, dim=1).flatten(0, 1))
        hidden_NFYX: Tensor = torch.cat(found, dim=1)
        return hidden_NFYX

    def _decoded(self, stack: _Stack, part: Tensor, scales: list[Tensor], hidden_NFYX: Tensor) -> Tensor:
        """Logits (N, Y, X) of some slices."""
        x = scales[3]
        for scale in (2, 1, 0):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            beside = [scales[scale], hidden_NFYX] if scale == 2 else [scales[scale]]
            x = self.decode[scale](torch.cat([x, *beside], dim=1))
        logits_NYX: Tensor = self.correct(x)[:, 0] + self.scale * stack.distance_N1YX[part, 0]
        return logits_NYX


@dataclass(frozen=True)
class _Stack:
    """Slices of all stacks in a row, padded, and which drawn slices are nearest to each.

    Attributes
    ----------
    image_N1YX, distance_N1YX, others_N1YX : slices; distances are clipped.
    before_N, after_N : number of the nearest drawn slice before and after; where there is none, that on the other side.
    near_N2 : 1 / (1 + slices to it), before and after; 0 where there is none.
    """

    image_N1YX: Tensor
    distance_N1YX: Tensor
    others_N1YX: Tensor
    before_N: Tensor
    after_N: Tensor
    near_N2: Tensor

    @staticmethod
    def padded(image_BSYX: Tensor, distance_BSYX: Tensor, known_BS: Tensor, others_BSYX: Tensor | None) -> _Stack:
        """Pad the slices so that their sides divide by 8, and find the drawn slices of each."""
        if others_BSYX is None:
            others_BSYX = torch.full_like(distance_BSYX, -LARGEST_DISTANCE)
        rows, columns = image_BSYX.shape[-2:]

        def slices(each_BSYX: Tensor) -> Tensor:
            flat = each_BSYX.flatten(0, 1)[:, None]
            return F.pad(flat, (0, -columns % _STEP, 0, -rows % _STEP), mode="replicate")

        distances = [
            slices(each.clamp(-LARGEST_DISTANCE, LARGEST_DISTANCE) / _UNIT) for each in (distance_BSYX, others_BSYX)
        ]
        own, others = distances
        return _Stack(slices(image_BSYX), own, others, *_nearest(known_BS))

    def inputs(self, part: Tensor) -> Tensor:
        """Inputs of the encoder but for those that are fetched, (N, F, Y, X)."""
        before, after = self.before_N[part], self.after_N[part]
        near = self.near_N2[part, :, None, None].expand(-1, -1, *self.image_N1YX.shape[-2:])
        return torch.cat([
            self.image_N1YX[part], self.distance_N1YX[part], self.others_N1YX[part],
            self.image_N1YX[before], self.distance_N1YX[before], self.image_N1YX[after], self.distance_N1YX[after],
            near.to(self.image_N1YX),
        ], dim=1)  # fmt: skip


def _nearest(known_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`before_N`, `after_N` and `near_N2` of a `_Stack`."""
    batch, slices = known_BS.shape
    number_BS = torch.arange(slices, device=known_BS.device).expand(batch, -1)
    before = torch.where(known_BS, number_BS, -1).cummax(dim=1).values
    after = torch.where(known_BS, number_BS, slices).flip(1).cummin(dim=1).values.flip(1)
    there_before, there_after = before >= 0, after < slices
    if not bool((there_before | there_after).all()):
        raise ValueError("a stack has no drawn slice")
    near = torch.stack([
        torch.where(there_before, 1.0 / (1 + number_BS - before), 0.0),
        torch.where(there_after, 1.0 / (1 + after - number_BS), 0.0),
    ], dim=2)  # fmt: skip
    first = slices * torch.arange(batch, device=known_BS.device)[:, None]
    before, after = torch.where(there_before, before, after), torch.where(there_after, after, before)
    return (before + first).flatten(), (after + first).flatten(), near.flatten(0, 1)


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two convolutions, each with normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (channels_in, channels_out):
        layers += [nn.Conv2d(before, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.Sequential(*layers)
