"""Inference recorded once and replayed: on a GPU launching small kernels one by one takes longer than they do.

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

Run = Callable[[Tensor, Consistency], Tensor]


@dataclass(frozen=True)
class CapturedGraph:
    """What was recorded, and the memory that it reads. run : calculates anew and returns its memory of the result."""

    image_BTYX: Tensor
    data: list[Tensor]
    run: Callable[[], Tensor]


class CudaGraphRunner:
    """Runs a function of an image and of data consistency, recorded as a CUDA graph from the second call of a kind on.

    Calls are of a kind where shapes, types, device, everything in the operator that is no tensor, and what the caller
    adds are the same. The first is run as it is, which also prepares the plans of cuDNN and cuFFT; the second is
    recorded; those after it are replayed on their own data. The results are the same. One recording is kept, with the
    memory that it works in. On another device than CUDA every call is run as it is; so it is once recording has failed.

    on : whether anything is recorded. why : it failed, in the words of PyTorch; empty where it did not.
    """

    def __init__(self) -> None:
        self.on, self.why = True, ""
        self._kind: Hashable = None
        self._kept: CapturedGraph | None = None

    def __reduce__(self) -> tuple[type[CudaGraphRunner], tuple[()]]:
        """Copy without what was recorded: it belongs to the weights of one network."""
        return CudaGraphRunner, ()

    @property
    def recorded(self) -> bool:
        """Return whether there is a recording."""
        return self._kept is not None

    def __call__(self, run: Run, image_BTYX: Tensor, consistency: Consistency, kind: Hashable) -> Tensor:
        """Return run(image, consistency). kind : whatever else the result depends on, but for values of weights."""
        if not self.on or not _possible(image_BTYX):
            return run(image_BTYX, consistency)
        data, fixed = _apart(consistency)
        found = (_form(image_BTYX), kind, fixed)
        if found != self._kind:
            self.forget()
            self._kind = found
            return run(image_BTYX, consistency)
        if self._kept is None:
            try:
                self._kept = record(run, image_BTYX, consistency)
            except RuntimeError as reason:
                self.forget()
                self.on, self.why = False, str(reason).partition("\n")[0]
                return run(image_BTYX, consistency)
        self._kept.image_BTYX.copy_(image_BTYX)
        for kept, given in zip(self._kept.data, data, strict=True):
            kept.copy_(given)
        return self._kept.run().clone()

    def forget(self) -> None:
        """Let the recording and its memory go."""
        self._kind, self._kept = None, None


def record(run: Run, image_BTYX: Tensor, consistency: Consistency) -> CapturedGraph:
    """Return a recording of what a function does on a CUDA device; nothing is calculated.

    Raises
    ------
    RuntimeError
        If something in it cannot be recorded, such as waiting for a value, or memory runs out.
    """
    image, operator = image_BTYX.clone(), _twin(consistency)
    graph, here = torch.cuda.CUDAGraph(), image.device
    kind, lower = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    with (
        torch.cuda.device(here),
        torch.cuda.stream(torch.cuda.current_stream(here)),  # so that a failure leaves the stream as it was
        torch.autocast("cuda", kind, enabled=lower, cache_enabled=False),  # what is cached would be gone at a replay
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        made = run(image, operator)

    def replayed() -> Tensor:
        graph.replay()
        return made

    return CapturedGraph(image, _apart(operator)[0], replayed)


def _possible(image_BTYX: Tensor) -> bool:
    return image_BTYX.device.type == "cuda" and not torch.is_grad_enabled()


def _form(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.dtype, tensor.device


def _apart(thing: Any) -> tuple[list[Tensor], Hashable]:
    """Return the tensors in an object and in those that it holds, and everything else of it."""
    if isinstance(thing, Tensor):
        return [thing], _form(thing)
    if not hasattr(thing, "__dict__"):
        return [], thing
    tensors, rest = list[Tensor](), list[Hashable]()
    for name, value in sorted(vars(thing).items()):
        inside, fixed = _apart(value)
        tensors += inside
        rest.append((name, fixed))
    return tensors, (type(thing), *rest)


def _twin(thing: Any) -> Any:
    """Return a copy of an object with tensors, also those of the objects that it holds, in memory of its own."""
    if isinstance(thing, Tensor):
        return thing.clone()
    if not hasattr(thing, "__dict__"):
        return thing
    made = copy.copy(thing)
    vars(made).update({name: _twin(value) for name, value in vars(thing).items()})
    return made
