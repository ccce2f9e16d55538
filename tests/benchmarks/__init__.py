"""Ratios against the peers, in one process, on the CPU: a GPU in the machine changes nothing."""

import torch

from course_lib.runtime import cpu_name


def this_cpu() -> str:
    return f"{cpu_name()}, {torch.get_num_threads()} threads"
