"""Where am I: the platform, the profile, the device, the precision and the seeds.

Three variables of the course's own are read, here and in ``files``: ``COURSE_PROFILE``,
``COURSE_DATA``, and ``COURSE_DEVICE``, which is ``cpu`` where a GPU shall not be used.
"""

import argparse
import os
import platform as host
import random
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm import tqdm

from course_lib import addresses
from course_lib.files import CourseError, first_line
from course_lib.memory import reuse_memory
from course_lib.setup import detect_platform

BUDGETS = {
    "smoke": "a slice of the data, seconds",
    "cpu": "the whole data set, an hour or more",
    "gpu": "the whole data set",
}
PROFILES = tuple(BUDGETS)
LARGEST_SEED = 2**63 - 1  # that torch takes

GPU_CHOSEN = {  # where a platform has one to give
    "Kaggle": "choose the accelerator 'GPU T4 x2' under 'Session options'",
    "Colab": "choose 'T4 GPU' under 'Runtime', 'Change runtime type'",
}


@dataclass(frozen=True)
class Precision:
    """The number format of the forward pass. ``dtype=None`` is plain fp32."""

    device: torch.device
    dtype: torch.dtype | None = None

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """fp16 gradients underflow without one; for bf16, with fp32's range, it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    @property
    def sum_dtype(self) -> torch.dtype:
        """What sums over an epoch are kept in: float64, which Apple's GPUs do not know."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    @property
    def name(self) -> str:
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]


@dataclass(frozen=True)
class Runtime:
    """What a notebook needs to know about the machine that it runs on."""

    platform: str
    profile: str
    reason: str  # why this profile and this device
    device: torch.device
    precision: Precision
    seed: int

    @property
    def machine(self) -> str:
        """The device in words, as it stands in result files."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        if self.device.type == "mps":
            return f"{cpu_name()}, its GPU"
        return this_cpu()

    def banner(self, *stores) -> str:
        """At most six lines: machine, profile and reason, then what each store says of itself."""
        versions = f"Python {host.python_version()}, torch {torch.__version__}"
        lines = [
            f"{self.platform} · {self.machine} · {versions}",
            f"profile {self.profile} ({BUDGETS[self.profile]}): {self.reason}",
            f"{self.precision.name}, channels_last, seed {self.seed}",
        ]
        lines += [store.describe() for store in stores[:3]]
        return "\n".join(lines)


def setup(profile: str | None = None, seed: int = 0) -> Runtime:
    """Look around, seed every random generator and return the facts.

    ``profile`` overrides ``COURSE_PROFILE``. Raises CourseError for an unknown profile, and for the
    profile "gpu" on a machine without a usable GPU.
    """
    device, why = find_device()
    profile, reason = _choose_profile(profile, device.type != "cpu", why)
    precision = pick_precision(device)
    if device.type == "cpu":
        reuse_memory()

    seed_everything(seed)
    return Runtime(detect_platform(), profile, reason, device, precision, seed)


def current_profile() -> str:
    """The profile that ``setup()`` would choose now."""
    device, why = find_device()
    return _choose_profile(None, device.type != "cpu", why)[0]


def _choose_profile(profile: str | None, usable: bool, why: str) -> tuple[str, str]:
    """(profile, reason): the argument, else the variable, else what the machine has."""
    variable = os.environ.get("COURSE_PROFILE")
    if profile is not None:
        asked, source = profile, "asked for by argument"
    elif variable:
        asked, source = variable, "asked for by COURSE_PROFILE"
    else:
        return ("gpu" if usable else "cpu"), why

    if asked not in PROFILES:
        raise CourseError(
            f"unknown profile {asked!r} ({source}): expected one of {', '.join(PROFILES)}"
        )
    if asked == "gpu" and not usable:
        raise CourseError(
            f"profile 'gpu' ({source}), but {why}. Choose 'cpu' or 'smoke', or mend the GPU."
        )
    return asked, f"{source}; {why}"


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch. The loaders seed Albumentations from their own ``seed``."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # numpy takes 32 bits
    torch.manual_seed(seed)


def seed_argument(text: str) -> int:
    """A seed as it is typed, for the commands' ``--seed``. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def pick_precision(device: torch.device) -> Precision:
    """bf16 where the chip multiplies it, fp16 on older GPUs (a T4), fp32 elsewhere."""
    if device.type == "mps":
        bf16 = Precision(device, torch.bfloat16)
        return bf16 if computes_right(bf16) else Precision(device)
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        is_ampere_or_later = major >= 8
        return Precision(device, torch.bfloat16 if is_ampere_or_later else torch.float16)
    return Precision(device, torch.bfloat16 if cpu_has_bf16() else None)


# --- the GPU ------------------------------------------------------------------------------------


def find_device() -> tuple[torch.device, str]:
    """A GPU that computes, else the CPU; and the finding in words."""
    usable, why = usable_gpu()
    if usable:
        return torch.device("cuda"), why

    if torch.backends.mps.is_built() and not _cpu_is_asked_for():  # a Mac, which knows no CUDA
        usable, why = usable_apple_gpu()
    return torch.device("mps" if usable else "cpu"), why


def _cpu_is_asked_for() -> bool:
    asked = os.environ.get("COURSE_DEVICE")
    if asked not in (None, "", "cpu"):
        raise CourseError(f"COURSE_DEVICE is {asked!r}: expected cpu, or nothing")
    return asked == "cpu"


def usable_gpu() -> tuple[bool, str]:
    """Whether CUDA will really compute here, and the finding in words.

    ``torch.cuda.is_available()`` is not enough: it says True on a card that this build of torch
    holds no kernels for (Kaggle's P100), and the first kernel then fails.
    """
    if _cpu_is_asked_for():
        return False, "COURSE_DEVICE asks for the CPU"
    chosen = GPU_CHOSEN.get(detect_platform())
    if not (torch.version.cuda or torch.version.hip):  # as on Colab and Kaggle without a GPU
        see = chosen or f"see {addresses.GET_TORCH}"
        return False, f"this build of torch knows no CUDA (for an NVIDIA GPU {see})"
    if not torch.cuda.is_available():
        return False, "no CUDA GPU found" + (f" (for one {chosen})" if chosen else "")

    try:
        name = torch.cuda.get_device_name(0)
        major, minor = torch.cuda.get_device_capability(0)
    except RuntimeError as error:
        return False, f"the GPU cannot be asked for its name ({first_line(error)})"

    built_for = torch.cuda.get_arch_list()
    if not _runs_on(major, minor, built_for):
        return False, (
            f"{name} (sm_{major}{minor}) is not among the architectures of this torch build "
            f"({' '.join(built_for)}){f'; {chosen}' if chosen else ''}"
        )

    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return False, f"{name} failed at its first kernel ({first_line(error)})"
    return True, f"{name} is usable"


def _runs_on(major: int, minor: int, built_for: list[str]) -> bool:
    """Whether a card of that compute capability runs what was built: ``["sm_70", "compute_90"]``.

    Machine code (sm) runs on its own major version from its minor on; PTX (compute) is compiled
    there for anything newer.
    """
    if torch.version.hip:
        return True  # AMD's names are no such numbers; the first kernel decides

    for arch in built_for:
        kind, _, number = arch.partition("_")
        number = number.rstrip("af")  # sm_90a
        arch_major, arch_minor = int(number[:-1]), int(number[-1])

        if kind == "sm" and arch_major == major and arch_minor <= minor:
            return True
        if kind == "compute" and (arch_major, arch_minor) <= (major, minor):
            return True
    return False


def usable_apple_gpu() -> tuple[bool, str]:
    """Whether the GPU of this Mac computes right, and the finding in words."""
    if dist.is_torchelastic_launched():
        return False, "Apple's GPU serves one process, and torchrun starts several"
    if not torch.backends.mps.is_available():
        return False, "no GPU found that torch knows (it takes an M1 or later, and a recent macOS)"

    try:
        right = computes_right(Precision(torch.device("mps")))
    except RuntimeError as error:
        return False, f"Apple's GPU failed at its first kernel ({first_line(error)})"

    if not right:
        return False, "Apple's GPU gives another gradient than the CPU (a newer torch may mend it)"
    return True, "Apple's GPU is usable (COURSE_DEVICE=cpu does without it)"


def computes_right(precision: Precision) -> bool:
    """Whether the gradient of a small convolution is what it is on the CPU in fp32."""
    expected = _gradient(Precision(torch.device("cpu")))
    try:
        found = _gradient(precision)
    except (RuntimeError, TypeError):
        if precision.dtype is None:
            raise
        return False  # it does not know this format
    return torch.allclose(found, expected, rtol=0.05, atol=0.05)


def _gradient(precision: Precision) -> torch.Tensor:
    """fp32 (4, 3, 3, 3) on the CPU, without a random number."""
    device = precision.device
    x = torch.linspace(-1, 1, 384, device=device).view(2, 3, 8, 8)
    weight = torch.linspace(-1, 1, 108, device=device).view(4, 3, 3, 3).requires_grad_()

    with precision.autocast():
        out = F.conv2d(x.contiguous(memory_format=torch.channels_last), weight)
    (gradient,) = torch.autograd.grad(out.float().square().mean(), weight)
    return gradient.float().cpu()


# --- the CPU ------------------------------------------------------------------------------------


def cpu_has_bf16() -> bool:
    """Whether the chip multiplies bf16 itself (AVX-512 BF16 or AMX).

    Emulated bf16 is slower than fp32.
    """
    if hasattr(torch.cpu, "get_capabilities"):  # newer versions of torch
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))

    flags = _cpuinfo("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def this_cpu() -> str:
    """As it stands in result files, with the threads that torch takes."""
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


def cpu_name() -> str:
    return _cpuinfo("model name") or _mac_chip() or host.processor() or host.machine()


def _mac_chip() -> str:
    """``Apple M2``; empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(asked, capture_output=True, encoding="utf-8").stdout.strip()


def _cpuinfo(key: str) -> str:
    """The first field of that name in Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""

    for line in lines:
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


# --- memory -------------------------------------------------------------------------------------


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU or the CPU had too little memory.

    Not all such errors have a class of their own: Apple's GPUs, and sometimes CUDA, say it in a
    plain RuntimeError, as torch does on a CPU.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True

    said = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "DefaultCPUAllocator" in said
    )


# --- a bar for what takes long ------------------------------------------------------------------


def progress_bar(
    total: int, name: str, unit: str, shown: bool = True, thousands: bool = True
) -> tqdm:
    """A text bar on stdout that vanishes when done; silent where nobody looks.

    thousands: 12,345 as 12.3k. Text, since widgets leave their state in the saved notebook.
    """
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    somebody_looks = shown and (sys.stdout.isatty() or in_notebook)

    # Where somebody looks it is not said, so that TQDM_DISABLE=1 still counts.
    silent = {} if somebody_looks else {"disable": True}
    return tqdm(
        total=total,
        desc=name,
        unit=unit,
        unit_scale=thousands,
        file=sys.stdout,
        leave=False,
        dynamic_ncols=True,
        **silent,
    )
