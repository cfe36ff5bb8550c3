"""CRNN-MRI as the paper's formulas read: loops over iterations, directions and frames; slow and obvious."""

import torch
from torch.nn.functional import conv2d


def conv(x, weights, name):
    return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")


def reconstruct(weights, features, image_BTYX, consistency, iterations):
    batch, frames, lines, columns = image_BTYX.shape
    zero = torch.zeros(batch, features, lines, columns)
    states = [[zero] * frames for _ in range(4)]
    for _ in range(iterations):
        x = [torch.view_as_real(image_BTYX[:, t]).permute(0, 3, 1, 2) for t in range(frames)]
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
                        conv(new[layer - 1][t], weights, f"conv{layer}_x")
                        + conv(states[layer][t], weights, f"conv{layer}_h")
                    )
                    for t in range(frames)
                ]
            )
        states = new
        residual = [conv(states[3][t], weights, "conv4_x") for t in range(frames)]
        image_BTYX = torch.stack(
            [image_BTYX[:, t] + torch.complex(residual[t][:, 0], residual[t][:, 1]) for t in range(frames)], 1
        )
        image_BTYX = consistency(image_BTYX)
    return image_BTYX
