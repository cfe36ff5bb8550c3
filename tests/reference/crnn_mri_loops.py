"""CRNN-MRI as the paper's formulas read: loops over iterations, directions and frames; slow and obvious."""

import torch
from torch.nn.functional import conv2d


def conv(x, weights, name):
    return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")


def channels(image_BYX, r):
    """Return one channel for each part of the complex numbers and each place of a pixel in its block of r x r."""
    lines, columns = image_BYX.shape[1:]
    filled = torch.zeros(len(image_BYX), -(-lines // r) * r, -(-columns // r) * r, dtype=image_BYX.dtype)
    filled[:, :lines, :columns] = image_BYX
    parts = (filled.real, filled.imag)
    return torch.stack([part[:, i::r, j::r] for part in parts for i in range(r) for j in range(r)], 1)


def image_of(channels_BCYX, r, lines, columns):
    batch, count, small_lines, small_columns = channels_BCYX.shape
    image = torch.zeros(batch, small_lines * r, small_columns * r, dtype=torch.complex64)
    for i in range(r):
        for j in range(r):
            real, imag = channels_BCYX[:, i * r + j], channels_BCYX[:, count // 2 + i * r + j]
            image[:, i::r, j::r] = torch.complex(real, imag)
    return image[:, :lines, :columns]


def shifted(states, t, shift):
    """Return frame t with the first channels of the frame before and the next of the frame after."""
    before, after = states[max(t - 1, 0)], states[min(t + 1, len(states) - 1)]
    return torch.cat([before[:, :shift], after[:, shift : 2 * shift], states[t][:, 2 * shift :]], 1)


def reconstruct(
    weights, features, image_BTYX, consistency, iterations, weight_sets=1, tsm_channels=0, temporal_context=0,
    noise_aware=0, pixel_unshuffle=1,
):  # fmt: skip
    batch, frames, lines, columns = image_BTYX.shape
    r = pixel_unshuffle
    zero = torch.zeros(batch, features, -(-lines // r), -(-columns // r))
    states = [[zero] * frames for _ in range(4)]
    change_BTYX = torch.zeros_like(image_BTYX)
    every = weights
    for number in range(iterations):
        chosen = number * weight_sets // iterations
        prefix = f"earlier.{chosen}." if chosen < weight_sets - 1 else ""
        weights = {name[len(prefix) :]: value for name, value in every.items() if name.startswith(prefix)}
        x = [channels(image_BTYX[:, t], r) for t in range(frames)]
        if temporal_context:
            mean = channels(sum(image_BTYX[:, t] for t in range(frames)) / frames, r)
            x = [torch.cat([x[t], mean, channels(change_BTYX[:, t], r)], 1) for t in range(frames)]
        directions = []
        for order in (range(frames), range(frames - 1, -1, -1)):
            hidden, found = zero, [zero] * frames
            for t in order:
                hidden = torch.relu(
                    conv(x[t], weights, "bcrnn.i2h")
                    + conv(hidden, weights, "bcrnn.h2h")
                    + conv(states[0][t], weights, "bcrnn.ih2ih")
                )
                found[t] = hidden
            directions.append(found)
        new = [[directions[0][t] + directions[1][t] for t in range(frames)]]
        for layer in (1, 2, 3):
            new.append(
                [
                    torch.relu(
                        conv(shifted(new[layer - 1], t, tsm_channels), weights, f"conv{layer}_x")
                        + conv(states[layer][t], weights, f"conv{layer}_h")
                    )
                    for t in range(frames)
                ]
            )
        states = new
        residual = [conv(states[3][t], weights, "conv4_x") for t in range(frames)]
        image_BTYX = torch.stack(
            [image_BTYX[:, t] + image_of(residual[t], r, lines, columns) for t in range(frames)], 1
        )
        guess_BTYX = image_BTYX
        image_BTYX = consistency(guess_BTYX, weights["error"]) if noise_aware else consistency(guess_BTYX)
        change_BTYX = image_BTYX - guess_BTYX
    return image_BTYX
