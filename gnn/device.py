"""Where networks run: on a GPU where there is one, else on the CPU.

Mini-batches are made on the CPU and moved one at a time, so that only one is on the GPU; answers come back as float64 on the CPU.
On a GPU the matrices of training are multiplied in bfloat16, which has the range of float32: no loss needs to be scaled (Kalamkar et
al., A Study of BFLOAT16 for Deep Learning Training, 2019, arXiv:1905.12322). Validation and answers are float32 everywhere. On a CPU
nothing is moved or rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch_geometric.data import HeteroData

CPU = torch.device("cpu")


def best_device() -> torch.device:
    """The GPU that CUDA takes first, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU


def moved(data: HeteroData, device: torch.device) -> HeteroData:
    """The same mini-batch there; on the CPU, where it was made, the very same."""
    if device.type == "cpu":
        return data
    there: HeteroData = data.to(device)
    return there


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """In it matrices are multiplied in bfloat16 on a GPU; on a CPU it is nothing."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """In it torch works on one core, so that a seed gives the same bits whatever the number of cores, and waits for no other.

    Graphs of a few thousand pairs are too small to be shared out: two threads are no faster, and far slower where others use the
    machine too. What runs side by side are whole jobs (`gnn.jobs`).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
