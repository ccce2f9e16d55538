"""Platform, profile, device, precision and seeds, on machines that this one pretends to be."""

import platform as host
import random
import re
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import runtime, setup
from course_lib.data import toy_shapes
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.runtime import PROFILES
from course_lib.training import evaluate, fit, optim

FROM_70 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
NO_GPU = (False, "no CUDA GPU found")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """A laptop: no variable of any platform, no wish for a profile, no GPU."""
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "COURSE_PROFILE", "COURSE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    """``gpu("Tesla P100", (6, 0), built_for, kernel)``: this machine has that card.

    ``kernel`` runs in place of the first one on it.
    """

    def pretend(name, capability, built_for=FROM_70, kernel=lambda: None):
        ones = torch.ones

        def fake_ones(*args, device=None, **kwargs):
            kernel()
            return ones(*args, **kwargs)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch, "ones", fake_ones)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.version, "hip", None)

    return pretend


# --- where ----------------------------------------------------------------------------------------


def test_kaggle_is_told_from_colab_where_the_variables_of_both_are_set(monkeypatch):
    assert runtime.detect_platform() == "local"

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert runtime.detect_platform() == "Colab"

    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert runtime.detect_platform() == "Kaggle"


def test_a_script_that_a_notebook_starts_knows_where_it_is(monkeypatch, tmp_path):
    """It inherits variables, and none of the kernel's modules."""
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert runtime.detect_platform() == "Colab"

    monkeypatch.setattr(setup, "KAGGLE_OUTPUT", tmp_path)  # Kaggle's image, without its variables
    assert runtime.detect_platform() == "Kaggle"


# --- which profile --------------------------------------------------------------------------------


@pytest.mark.parametrize("usable, expected", [(True, "gpu"), (False, "cpu")])
def test_a_notebook_opened_by_hand_takes_the_gpu_if_there_is_one(monkeypatch, usable, expected):
    monkeypatch.setattr(runtime, "usable_gpu", lambda: (usable, "as found"))
    assert runtime.current_profile() == expected


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_the_argument_wins_over_the_variable_and_the_variable_over_the_machine(
    monkeypatch, profile
):
    other = "cpu" if profile == "smoke" else "smoke"
    monkeypatch.setenv("COURSE_PROFILE", other)

    by_argument = runtime.setup(profile)
    assert by_argument.profile == profile and "argument" in by_argument.reason

    by_variable = runtime.setup()
    assert by_variable.profile == other and "COURSE_PROFILE" in by_variable.reason


def test_an_empty_variable_asks_for_nothing(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "")
    assert runtime.current_profile() == "cpu"


@pytest.mark.parametrize("source", ["argument", "COURSE_PROFILE"])
def test_an_unknown_profile_is_named_with_the_choices(monkeypatch, source):
    monkeypatch.setenv("COURSE_PROFILE", "fast" if source == "COURSE_PROFILE" else "cpu")
    with pytest.raises(CourseError) as caught:
        runtime.setup("fast" if source == "argument" else None)

    for part in ("'fast'", source, *PROFILES):
        assert part in str(caught.value)


@pytest.mark.parametrize("source", ["argument", "COURSE_PROFILE"])
def test_the_profile_gpu_without_a_gpu_is_an_error_with_a_way_out(monkeypatch, source):
    monkeypatch.setattr(runtime, "usable_gpu", lambda: NO_GPU)
    if source == "COURSE_PROFILE":
        monkeypatch.setenv("COURSE_PROFILE", "gpu")

    with pytest.raises(CourseError) as caught:
        runtime.setup("gpu" if source == "argument" else None)

    for part in ("'gpu'", source, NO_GPU[1], "'cpu'", "'smoke'"):
        assert part in str(caught.value)


# --- a GPU that computes --------------------------------------------------------------------------


def test_a_machine_without_cuda_has_no_usable_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert runtime.usable_gpu() == NO_GPU


def test_kaggles_p100_is_found_out_and_the_better_accelerator_named(gpu, monkeypatch):
    """``torch.cuda.is_available()`` says True there; the first kernel would fail."""
    gpu("Tesla P100-PCIE-16GB", (6, 0))
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    usable, why = runtime.usable_gpu()

    assert not usable
    for part in ("P100", "sm_60", "sm_70", "GPU T4 x2"):
        assert part in why

    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    assert "T4" not in runtime.usable_gpu()[1], "nobody chooses an accelerator elsewhere"


@pytest.mark.parametrize(
    "capability, built_for, usable",
    [
        ((7, 5), FROM_70, True),
        ((7, 5), ["sm_70", "sm_80"], True),  # on later minors of its major version
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_75", "sm_86"], False),  # never on earlier minors
        ((9, 0), ["sm_80", "sm_86"], False),  # nor on the next major version
        ((9, 0), ["sm_80", "compute_80"], True),  # PTX is compiled there for anything newer
        ((13, 0), [*FROM_70, "compute_120"], True),
        ((6, 0), [*FROM_70, "compute_120"], False),
        ((12, 0), ["sm_90", "sm_120"], True),
    ],
)
def test_a_card_is_usable_if_its_architecture_was_built_for(gpu, capability, built_for, usable):
    gpu("some card", capability, built_for)
    assert runtime.usable_gpu()[0] is usable


def test_amds_architectures_have_other_names_and_are_left_to_the_first_kernel(gpu, monkeypatch):
    gpu("AMD Instinct", (9, 4), ["gfx942", "gfx1100"])
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert runtime.usable_gpu() == (True, "AMD Instinct is usable")


def test_a_card_that_fails_at_its_first_kernel_is_not_used_and_the_cause_is_told(gpu):
    def fail():
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    gpu("Tesla T4", (7, 5), kernel=fail)
    usable, why = runtime.usable_gpu()
    assert not usable
    assert why == "Tesla T4 failed at its first kernel (CUDA error: out of memory)"
    assert runtime.setup().device.type == "cpu"


def test_a_torch_without_cuda_says_so_and_where_another_is(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    usable, why = runtime.usable_gpu()
    assert not usable and "this build of torch knows no CUDA" in why and "pytorch.org" in why


@pytest.mark.parametrize(
    "variable, menu",
    [("KAGGLE_KERNEL_RUN_TYPE", "Session options"), ("COLAB_RELEASE_TAG", "Change runtime type")],
)
@pytest.mark.parametrize("cuda", ["12.8", None])
def test_where_a_gpu_can_be_chosen_the_banner_says_how(monkeypatch, variable, menu, cuda):
    """Without a GPU a torch without CUDA may lie there, and another build is no cure."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setenv(variable, "x")
    said = runtime.setup().banner()
    assert menu in said and "T4" in said and "pytorch.org" not in said


def test_a_driver_that_does_not_answer_is_told(gpu, monkeypatch):
    gpu("Tesla T4", (7, 5))
    broken = Mock(side_effect=RuntimeError("CUDA unknown error\nmore"))
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)

    usable, why = runtime.usable_gpu()
    assert not usable
    assert why == "the GPU cannot be asked for its name (CUDA unknown error)"


@pytest.mark.parametrize(
    "name, capability, precision", [("Tesla T4", (7, 5), "fp16"), ("A100", (8, 0), "bf16")]
)
def test_setup_with_a_gpu_says_what_it_found(gpu, name, capability, precision):
    gpu(name, capability)
    rt = runtime.setup()

    assert (rt.profile, rt.device.type) == ("gpu", "cuda")
    assert (rt.machine, rt.precision.name) == (name, precision)
    assert name in rt.banner()


def test_whoever_wants_the_cpu_gets_it_with_a_gpu_at_hand(gpu, monkeypatch):
    gpu("Tesla T4", (7, 5))
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    rt = runtime.setup()
    assert (rt.profile, rt.device.type) == ("cpu", "cpu")
    assert "COURSE_DEVICE asks for the CPU" in rt.banner()

    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    with pytest.raises(CourseError, match="COURSE_DEVICE is 'tpu': expected cpu"):
        runtime.setup()


# --- a Mac ----------------------------------------------------------------------------------------


@pytest.fixture
def mac(monkeypatch):
    """``mac(fp32=gradient, bf16=gradient)``: its GPU gives these, in place of the right one.

    An error is raised.
    """
    right = runtime._gradient(runtime.Precision(torch.device("cpu")))

    def pretend(available=True, fp32=right, bf16=right):
        def gradient(precision):
            if precision.device.type == "cpu":
                return right
            given = fp32 if precision.dtype is None else bf16
            if isinstance(given, Exception):
                raise given
            return given

        monkeypatch.setattr(torch.version, "cuda", None)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
        monkeypatch.setattr(runtime, "_gradient", gradient)
        monkeypatch.setattr(runtime, "cpu_name", lambda: "Apple M2")

    pretend.right = right
    return pretend


def test_apples_gpu_is_taken_and_nobody_there_is_told_of_cuda(mac):
    mac()
    rt = runtime.setup()
    assert (rt.profile, rt.device.type, rt.precision.name) == ("gpu", "mps", "bf16")

    said = rt.banner()
    assert "Apple M2, its GPU" in said and "Apple's GPU is usable" in said
    assert "CUDA" not in said and "NVIDIA" not in said


def test_apples_gpu_can_be_done_without(mac, monkeypatch):
    mac()
    assert "COURSE_DEVICE=cpu" in runtime.setup().banner(), "the switch is named"

    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    rt = runtime.setup()
    assert rt.device.type == "cpu" and "CUDA" not in rt.banner()


@pytest.mark.parametrize(
    "bf16",
    [RuntimeError("not supported"), TypeError("BFloat16 is not supported on MPS"), "wrong"],
)
def test_on_a_mac_whose_bf16_fails_the_check_fp32_is_taken(mac, bf16):
    mac(bf16=2 * mac.right if bf16 == "wrong" else bf16)
    rt = runtime.setup()
    assert (rt.device.type, rt.precision.name) == ("mps", "fp32")


@pytest.mark.parametrize(
    "machine, said",
    [
        ({"available": False}, "no GPU found that torch knows"),
        ({"fp32": RuntimeError("MPS backend out of memory\nmore")}, "failed at its first kernel"),
        ({"fp32": torch.zeros(4, 3, 3, 3)}, "another gradient than the CPU"),
    ],
    ids=["none", "first kernel", "wrong numbers"],
)
def test_a_mac_without_a_gpu_that_computes_takes_the_cpu_and_says_why(mac, machine, said):
    mac(**machine)
    rt = runtime.setup()
    assert (rt.profile, rt.device.type) == ("cpu", "cpu")
    assert said in rt.banner() and "CUDA" not in rt.banner() and "more" not in rt.reason


def test_of_several_processes_none_takes_apples_gpu(mac, monkeypatch):
    mac()
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    assert runtime.setup().device.type == "cpu"


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_device_that_computes_right_passes_the_check(dtype):
    assert runtime.computes_right(runtime.Precision(torch.device("cpu"), dtype))


def test_a_training_asks_apples_gpu_for_no_float64(monkeypatch):
    """It has none, and the epoch would end at its first sum."""
    on_cpu = runtime.Precision(torch.device("cpu"))
    loader = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))] * 2
    expected = evaluate(model := create_model("resnet20", num_classes=4), loader, precision=on_cpu)

    monkeypatch.setattr(runtime.Precision, "sum_dtype", torch.float32)
    with NoFloat64():
        found = evaluate(model, loader, precision=on_cpu)
        history = fit(model, loader, loader, epochs=1, optimizer=optim.sgd(model, lr=0.1))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5) and found.top1 == expected.top1
    assert history.last["train_loss"] > 0


class NoFloat64(TorchDispatchMode):
    """As on Apple's GPU: an operation that gives float64 is an error."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        assert getattr(out, "dtype", None) is not torch.float64, f"{operation} gave float64"
        return out


# --- precision ------------------------------------------------------------------------------------


def test_a_t4_computes_in_fp16_with_a_scaler_for_it_has_no_bf16_units(gpu):
    gpu("Tesla T4", (7, 5))
    precision = runtime.pick_precision(torch.device("cuda"))
    assert precision.dtype is torch.float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no card here for the scaler to work on
        assert precision.scaler().is_enabled()


def test_ampere_computes_in_bf16_without_a_scaler(gpu):
    gpu("A100", (8, 0))
    precision = runtime.pick_precision(torch.device("cuda"))
    assert precision.dtype is torch.bfloat16 and not precision.scaler().is_enabled()


@pytest.mark.parametrize(
    "has, name, dtype", [(True, "bf16", torch.bfloat16), (False, "fp32", torch.float32)]
)
def test_a_cpu_computes_in_bf16_only_where_the_chip_does(monkeypatch, has, name, dtype):
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: has)
    precision = runtime.pick_precision(torch.device("cpu"))
    assert precision.name == name and not precision.scaler().is_enabled()

    with precision.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 4), torch.ones(3, 4)).dtype is dtype


@pytest.mark.parametrize(
    "flags, has",
    [
        ("avx512f avx512_bf16", True),
        ("avx512f amx_bf16", True),
        ("avx2 avx512f", False),
        ("", False),
    ],
)
def test_an_older_torch_reads_the_chip_from_the_system(monkeypatch, flags, has):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(runtime, "_cpuinfo", lambda key: flags)
    assert runtime.cpu_has_bf16() is has


@pytest.mark.skipif(
    host.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="Linux on x86 only"
)
def test_what_torch_says_of_this_chip_is_what_the_system_says():
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = found[1].split()
    assert runtime.cpu_has_bf16() == ("avx512_bf16" in flags or "amx_bf16" in flags)


# --- seeds and banner -----------------------------------------------------------------------------


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_one_seed_repeats_python_numpy_and_torch_and_another_changes_each():
    runtime.setup("smoke", seed=7)
    first = draw()

    runtime.seed_everything(8)
    other = draw()

    runtime.seed_everything(7)
    assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_seeds_too_large_for_numpy_are_taken_too():
    runtime.seed_everything(2**40 + 1)


@pytest.mark.parametrize("stores", range(5))
def test_the_banner_has_at_most_six_lines_and_says_what_runs_why_and_on_what(stores):
    store = toy_shapes("val", count=20, size=16)
    rt = runtime.setup("smoke", seed=3)
    text = rt.banner(*[store] * stores)
    assert len(text.splitlines()) == 3 + min(stores, 3)

    for part in ("local", "smoke", "argument", NO_GPU[1]):
        assert part in text
    for part in (torch.__version__, rt.precision.name, "seed 3"):
        assert part in text

    described = text.count("toy shapes val: 20 drawn (toy) pictures, 16×16, 10 classes")
    assert described == min(stores, 3)


def test_a_machine_is_described_in_one_line():
    machine = runtime.setup("smoke").machine
    assert f", {torch.get_num_threads()} thread" in machine
    assert "\n" not in machine


@pytest.mark.parametrize("threads, said", [(1, ", 1 thread"), (2, ", 2 threads")])
def test_one_thread_is_no_plural(monkeypatch, threads, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    on_a_cpu = replace(runtime.setup("smoke"), device=torch.device("cpu"))
    assert on_a_cpu.machine.endswith(said)


# --- progress bar -------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal, shown", [(True, False), (False, True)])
def test_the_bar_is_silent_where_nobody_looks(monkeypatch, capsys, terminal, shown):
    """A stdout that is a file, or the second of two processes."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with runtime.progress_bar(3, "decoding", " pictures", shown) as bar:
        bar.update(1)
        bar.set_postfix_str("loss 1.0")
    assert capsys.readouterr() == ("", "")


def test_where_somebody_looks_the_variable_of_tqdm_decides(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(runtime, "tqdm", Mock())
    runtime.progress_bar(3, "decoding", " pictures")

    said = runtime.tqdm.call_args.kwargs
    assert "disable" not in said, "an argument would win over TQDM_DISABLE"
    assert (said["total"], said["desc"], said["file"]) == (3, "decoding", sys.stdout)
