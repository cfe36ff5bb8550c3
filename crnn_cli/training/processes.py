"""One training process or several, as torchrun starts them: ranks, shared batches, averaged gradients."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from crnn_cli.errors import UsageError
from crnn_cli.training.segment.batch_norm import share_batch_norm


class Processes:
    """The processes of a run, from the environment of torchrun (WORLD_SIZE, RANK, LOCAL_RANK); one without it.

    Parameters
    ----------
    device : chosen for one process. If it is CUDA, each of several processes takes the device of its local rank.

    Attributes
    ----------
    count, rank : number of processes, and the number of this one.
    device : of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.device = device
        if self.count == 1:
            return
        if device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))  # the others wait while the first validates

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Items of a batch that each process takes.

        Raises
        ------
        UsageError
            If the batch cannot be divided evenly.
        """
        if batch % self.count:
            raise UsageError(f"a batch of {batch} cannot be divided among {self.count} processes; make it a multiple")
        return batch // self.count

    def synchronise_batch_norm(self, network: nn.Module) -> nn.Module:
        """Let batch normalisation take its statistics over all processes.

        On CUDA PyTorch's implementation is used, elsewhere `crnn_cli.training.segment.batch_norm`. With one process the
        network is returned as it is.
        """
        if self.count == 1:
            return network
        if self.device.type != "cuda":
            return share_batch_norm(network)
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted

    def average(self, network: nn.Module, loss: float) -> float:
        """Average gradients and running statistics over the processes, in place.

        A weight that the items of some processes did not use, such as a weight set that fewer iterations leave out, has
        gradients of zero there; one that no process used keeps having none.

        Parameters
        ----------
        network : whose gradients are averaged.
        loss : of this process.

        Returns
        -------
        The average loss.
        """
        if self.count == 1:
            return loss
        weights = [p for p in network.parameters() if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in weights], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        statistics = [b for b in network.buffers() if b.is_floating_point()]
        mean_loss = torch.tensor([loss], dtype=torch.float32, device=self.device)
        tensors = [*gradients, *statistics, mean_loss, used]
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        for weight, gradient, share in zip(weights, gradients, used.tolist(), strict=True):
            weight.grad = gradient if share else None
        return float(mean_loss)

    def broadcast(self, number: int) -> int:
        """Number of the first process, in all processes."""
        if self.count == 1:
            return number
        shared = torch.tensor([number], device=self.device)
        dist.broadcast(shared, 0)
        return int(shared)

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
