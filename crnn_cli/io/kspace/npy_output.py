"""Arrays without geometry, such as k-space and sensitivities, as .npy files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import OutputError
from crnn_cli.io.atomic_write import Output


def array_output(array: NDArray[Any], target: Path) -> Output:
    """Prepare a .npy file of an array, which is read back and compared before it is moved into place."""

    def check(temporary: Path) -> None:
        if not np.array_equal(np.load(temporary, allow_pickle=False), array):
            raise OutputError(f"{target} was not written: what was read back differs from what was to be stored")

    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return Output(target, content.getvalue(), check)
