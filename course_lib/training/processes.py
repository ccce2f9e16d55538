"""One training in several processes: started by torchrun, each with its share of every batch.

Without torchrun there is one process, and everything here passes its argument through.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from course_lib.files import CourseError, first_line
from course_lib.runtime import is_out_of_memory, usable_gpu

PATIENCE = timedelta(minutes=10)  # that one process has with another


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 is the one that writes and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Join the other processes of a torchrun. After an error nobody is waited for.

    They speak nccl where each has a GPU of its own, else gloo.
    """
    if not dist.is_torchelastic_launched():
        yield
        return

    # before the first kernel, which would make itself at home on the first card
    number, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number < cards:
        torch.cuda.set_device(number)

    gpu, _ = usable_gpu()
    if gpu and number >= cards:
        raise CourseError(f"more processes than GPUs: start at most {cards} on this machine")

    if gpu and dist.is_nccl_available():
        card = torch.device("cuda", number)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=card)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)

    yield
    dist.destroy_process_group()


# --- what they tell each other ------------------------------------------------------------------


def total(sums: torch.Tensor) -> torch.Tensor:
    """The same sums over all processes."""
    if count() > 1:
        dist.all_reduce(sums)
    return sums


def agree(loss: torch.Tensor, stop: bool) -> tuple[float, bool]:
    """The mean loss of all processes, and whether any was asked to stop: then all do, together."""
    if count() == 1:
        return loss.item(), stop

    asked = torch.tensor(float(stop)).to(loss)
    loss_sum, asked = total(torch.stack([loss.double(), asked])).tolist()
    return loss_sum / count(), asked > 0


def gather(state) -> list:
    """One for each process."""
    if count() == 1:
        return [state]
    states = [None] * count()
    dist.all_gather_object(states, state)
    return states


def wait() -> None:
    """Until all processes are here: torchrun ends all of them with the first."""
    if count() > 1:
        dist.barrier()


def same_statistics(model: nn.Module) -> None:
    """The norms' running statistics of process 0, everywhere."""
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


# --- what a training calls ----------------------------------------------------------------------


def network(model: nn.Module, compiled: bool, report: Callable[[str], None]) -> Callable:
    """The model as a training calls it: spread over the processes, and compiled if asked for."""
    spread = DistributedDataParallel(model) if count() > 1 else model
    return Compiled(spread, report) if compiled else spread


class Compiled:
    """``torch.compile`` where it works.

    Where it does not (no C compiler, say) it fails at the first call, and this goes on without.
    """

    def __init__(self, model: nn.Module, report: Callable[[str], None]) -> None:
        self.model, self.report, self.call = model, report, None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        try:
            self.call = self.call or torch.compile(self.model)
            return self.call(x)
        except Exception as error:
            if self.call is self.model or is_out_of_memory(error):
                raise  # the network's own error, or the machine's
            cause = first_line(error)
            self.report(f"torch.compile does not work here ({cause}): going on without it")
            self.call = self.model
            return self.model(x)  # where an error of the model's own comes again
