"""One process or many, as torchrun starts them: who is who, and gradients averaged over all."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from crnn_cli.errors import UsageError
from crnn_cli.training.segment.batch_norm import share_batch_norm


class Processes:
    """The processes of a run; alone unless torchrun says otherwise (WORLD_SIZE, RANK, LOCAL_RANK).

    Parameters
    ----------
    device : what was chosen for one process. Of several, each takes the CUDA device of its local rank, if the choice
        is CUDA.
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
        """Return whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Return how many items of a batch each process takes.

        Raises
        ------
        UsageError
            If they cannot be divided evenly.
        """
        if batch % self.count:
            raise UsageError(f"a batch of {batch} cannot be divided among {self.count} processes; make it a multiple")
        return batch // self.count

    def synchronised(self, network: nn.Module) -> nn.Module:
        """Return the network with batch statistics over all processes: PyTorch's on CUDA, elsewhere ours."""
        if self.count == 1:
            return network
        if self.device.type != "cuda":
            return share_batch_norm(network)
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted

    def average(self, network: nn.Module, loss: float) -> float:
        """Average gradients and running statistics over the processes, in place; return the average loss.

        A weight that the items of some processes did not use, as a set that fewer iterations leave out, counts as
        having gradients of zero there; one that none used keeps having none.
        """
        if self.count == 1:
            return loss
        weights = [p for p in network.parameters() if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in weights], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        statistics = [b for b in network.buffers() if b.is_floating_point()]
        mean_loss = torch.tensor([loss], dtype=torch.float32, device=self.device)
        together = [*gradients, *statistics, mean_loss, used]
        flat = torch.cat([t.flatten() for t in together])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(together, flat.split([t.numel() for t in together]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        for weight, gradient, share in zip(weights, gradients, used.tolist(), strict=True):
            weight.grad = gradient if share else None
        return float(mean_loss)

    def agreed(self, number: int) -> int:
        """Return the first process's number, in all of them."""
        if self.count == 1:
            return number
        told = torch.tensor([number], device=self.device)
        dist.broadcast(told, 0)
        return int(told)

    def wait(self) -> None:
        """Wait for the others."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
