"""Partial labels: volumes in which only some of the structures are labelled teach only these.

What is not labelled there is not known to be background: it is background or one of the unlabelled structures u. So the
classes 0 and u are merged, in the logits of the network, before the loss is computed:

    l'_0 = log(exp l_0 + sum over u of exp l_u)        the probability of the merged class is the sum of theirs
    l'_u = -infinity                                   in practice so low that their probability is 0
    l'_k = l_k                                         of the labelled structures

Legend: B sequence, S slice, K class (0 background), Y row, X column.

References
----------
Shi, Xiao, Chen, Zhou: "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical
Image Analysis 70, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError

_NEVER = -1e4  # logit of a class whose probability is to be 0; finite, so that 0 times it is 0


def structure_values(structures: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Values that the structures of a file have in the model: of its values 1, 2, ... in order.

    >>> structure_values(["left ventricle"], ["right ventricle", "myocardium", "left ventricle"])
    (3,)

    Parameters
    ----------
    structures : labelled in the file, by its values 1, 2, ...; empty where all are, with the model's values.
    names : of the structures 1, 2, ... of the model.

    Raises
    ------
    UnsupportedDataError
        If the model has no structure of a name.
    """
    if not structures:
        return tuple(range(1, len(names) + 1))
    unknown = [name for name in structures if name not in names]
    if unknown:
        raise UnsupportedDataError(
            f"the data set has labels of {unknown[0]!r}, which is none of the structures to be learned: "
            f"{', '.join(names)}; set the names of all in [labels]"
        )
    return tuple(names.index(name) + 1 for name in structures)


def model_labels(labels: NDArray[np.uint8], values: Sequence[int]) -> NDArray[np.uint8]:
    """Convert the values 1, 2, ... of a file to those of the model.

    >>> model_labels(np.array([0, 1, 1], np.uint8), (3,)).tolist()
    [0, 3, 3]
    """
    table = np.zeros(256, np.uint8)
    table[1 : len(values) + 1] = values
    converted: NDArray[np.uint8] = table[labels]
    return converted


def merge_unlabelled(logits_BSKYX: Tensor, labelled_BK: Tensor) -> Tensor:
    """Merge the background and the structures that are not labelled into the background.

    Parameters
    ----------
    logits_BSKYX : of the network.
    labelled_BK : whether the structure is labelled in the sequence, boolean; the background counts as labelled.

    Returns
    -------
    Logits of the same shape; where everything is labelled they are unchanged.

    >>> logits = torch.zeros(1, 1, 3, 1, 1)
    >>> merged = merge_unlabelled(logits, torch.tensor([[True, False, True]]))
    >>> [round(p, 3) for p in torch.softmax(merged, dim=2).flatten().tolist()]
    [0.667, 0.0, 0.333]
    """
    if bool(labelled_BK.all()):
        return logits_BSKYX
    labelled_B1K11 = labelled_BK[:, None, :, None, None]
    rest = labelled_B1K11.logical_not()
    rest[:, :, 0] = True  # the background is among what is merged
    merged = torch.logsumexp(logits_BSKYX.masked_fill(~rest, _NEVER), dim=2, keepdim=True)
    structures = logits_BSKYX[:, :, 1:].masked_fill(~labelled_B1K11[:, :, 1:], _NEVER)
    return torch.cat([merged, structures], dim=2)
