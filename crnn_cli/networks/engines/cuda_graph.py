"""Inference captured once as a CUDA graph and replayed: launching small kernels one by one takes longer than they do.

Legend: B batch, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crnn_cli.mri.consistency import Consistency

Inference = Callable[[Tensor, Consistency], Tensor]


@dataclass(frozen=True)
class CapturedGraph:
    """A captured inference with the memory that it works in.

    Attributes
    ----------
    image_BTYX, data : memory that it reads: the image, and the tensors of the data-consistency operator.
    run : replays the graph and returns the memory of its result, which the next replay overwrites.
    """

    image_BTYX: Tensor
    data: list[Tensor]
    run: Callable[[], Tensor]


class CudaGraphRunner:
    """Runs inference as it is the first time, captures it as a CUDA graph the second time, and replays it from then on.

    A graph serves calls with the same key: shapes, dtypes and device, everything in the operator that is no tensor, and
    what the caller adds. The first call also prepares the plans of cuDNN and cuFFT. Results are the same. One graph is
    held, with its memory. On other devices than CUDA every call is run as it is, and so it is once a capture failed.

    Attributes
    ----------
    enabled : whether anything is captured.
    failure : why a capture failed, in the words of PyTorch; empty where none did.
    """

    def __init__(self) -> None:
        self.enabled, self.failure = True, ""
        self._key: Hashable = None
        self._graph: CapturedGraph | None = None

    def __reduce__(self) -> tuple[type[CudaGraphRunner], tuple[()]]:
        """Copy without the graph: it belongs to the weights of one network."""
        return CudaGraphRunner, ()

    @property
    def captured(self) -> bool:
        """Whether a graph is held."""
        return self._graph is not None

    def __call__(self, run: Inference, image_BTYX: Tensor, consistency: Consistency, key: Hashable) -> Tensor:
        """Run inference, or replay it.

        Parameters
        ----------
        run : the inference; it may read other memory, such as weights, whose addresses must not change.
        image_BTYX, consistency : its arguments.
        key : whatever else the result depends on. Values of weights need not be in it, their addresses must.

        Returns
        -------
        run(image_BTYX, consistency), in memory of its own.
        """
        if not self.enabled or not _can_capture(image_BTYX):
            return run(image_BTYX, consistency)
        data, fixed = _split_tensors(consistency)
        whole_key = (_signature(image_BTYX), key, fixed)
        if whole_key != self._key:
            self.release()
            self._key = whole_key
            return run(image_BTYX, consistency)
        if self._graph is None:
            try:
                self._graph = capture(run, image_BTYX, consistency)
            except RuntimeError as reason:
                self.release()
                self.enabled, self.failure = False, str(reason).partition("\n")[0]
                return run(image_BTYX, consistency)
        self._graph.image_BTYX.copy_(image_BTYX)
        for buffer, values in zip(self._graph.data, data, strict=True):
            buffer.copy_(values)
        return self._graph.run().clone()

    def release(self) -> None:
        """Let the graph and its memory go."""
        self._key, self._graph = None, None


def capture(run: Inference, image_BTYX: Tensor, consistency: Consistency) -> CapturedGraph:
    """Capture what a function does on a CUDA device, with copies of its arguments; nothing is calculated.

    Raises
    ------
    RuntimeError
        If something in it cannot be captured, such as waiting for a value, or memory runs out.
    """
    image, operator = image_BTYX.clone(), _clone_tensors(consistency)
    graph, device = torch.cuda.CUDAGraph(), image.device
    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream(device)),  # so that a failure leaves the stream as it was
        torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False),  # cached casts would be gone at a replay
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        output = run(image, operator)

    def replay() -> Tensor:
        graph.replay()
        return output

    return CapturedGraph(image, _split_tensors(operator)[0], replay)


def _can_capture(image_BTYX: Tensor) -> bool:
    return image_BTYX.device.type == "cuda" and not torch.is_grad_enabled()


def _signature(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.dtype, tensor.device


def _split_tensors(value: Any) -> tuple[list[Tensor], Hashable]:
    """Tensors in an object and in the objects that it holds, and everything else of it."""
    if isinstance(value, Tensor):
        return [value], _signature(value)
    if not hasattr(value, "__dict__"):
        return [], value
    tensors, rest = list[Tensor](), list[Hashable]()
    for name, attribute in sorted(vars(value).items()):
        inside, fixed = _split_tensors(attribute)
        tensors += inside
        rest.append((name, fixed))
    return tensors, (type(value), *rest)


def _clone_tensors(value: Any) -> Any:
    """Copy of an object with its tensors, also those of the objects that it holds, in memory of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if not hasattr(value, "__dict__"):
        return value
    twin = copy.copy(value)
    vars(twin).update({name: _clone_tensors(attribute) for name, attribute in vars(value).items()})
    return twin
