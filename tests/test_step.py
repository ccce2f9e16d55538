"""What a step may do besides: a batch in parts, clipping, averages, mixed pictures, compiling."""

import copy
import errno
import functools
import math
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
import toy_training
from torch import nn

from course_lib.data import BatchLoader
from course_lib.files import CourseError
from course_lib.runtime import Precision, seed_everything
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CheckpointError,
    Extras,
    History,
    Trainer,
    curves,
    evaluate,
    fit,
    schedules,
)

CPU = torch.device("cpu")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def toys():
    return toy_training.toys()


@pytest.fixture(autouse=True)
def same_start():
    seed_everything(0)


def network(norm=False, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def trainer(model, lr=0.1, dtype=None, **extras):
    optimizer = torch.optim.SGD(model.parameters(), lr)
    asked = Extras(**extras)
    return Trainer(
        model,
        optimizer,
        schedules.constant(optimizer),
        Precision(CPU, dtype),
        extras=asked,
        mix=asked.mix(10),
    )


def batch(count=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 16, 16, generator=generator)
    return x, torch.randint(10, (count,), generator=generator)


def change(model, before):
    """Of all weights, in one row."""
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    return torch.cat([(p - q).flatten() for p, q in pairs])


def run(toys, model, extras=Extras(), sizes=(16, 16), after_epoch=None, checkpoint=None):
    """Two epochs of six steps with ``fit``: the history and the lines that were reported."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lines = []
    callbacks = Callbacks(report=lines.append)
    if after_epoch:
        callbacks = replace(callbacks, after_epoch=after_epoch)
    history = fit(
        model,
        BatchLoader(toys.train, 20, seed=0),
        BatchLoader(toys.tune, 20, augment=False),
        sizes=sizes,
        optimizer=optimizer,
        extras=extras,
        checkpoint=checkpoint and Checkpoint(checkpoint),
        callbacks=callbacks,
    )
    return SimpleNamespace(history=history, lines=lines, model=model)


# --- out of range ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting, value, expected",
    [
        ("clip_norm", -1.0, "None or a length above 0"),
        ("clip_norm", 0.0, "None or a length above 0"),
        ("clip_norm", math.nan, "None or a length above 0"),
        ("accumulate", 0, "a whole number from 1 on"),
        ("accumulate", -2, "a whole number from 1 on"),
        ("accumulate", 1.5, "a whole number from 1 on"),
        ("averaging", 1.0, "from 0 to below 1"),
        ("averaging", -0.1, "from 0 to below 1"),
        ("averaging", math.nan, "from 0 to below 1"),
        ("mixup", -0.2, "0 or more"),
        ("cutmix", -1.0, "0 or more"),
        ("cutmix", math.nan, "0 or more"),
    ],
)
def test_an_extra_that_is_out_of_range_is_refused_when_it_is_made(setting, value, expected):
    """Left alone these diverge, learn nothing, return the first weights, or fail in the middle."""
    with pytest.raises(CourseError, match=f"{setting} is {value}: expected {expected}"):
        Extras(**{setting: value})


@pytest.mark.parametrize(
    "extras", [{"accumulate": 2.0}, {"mixup": 1}, {"cutmix": 1}, {"clip_norm": math.inf}]
)
def test_an_extra_within_its_range_makes_a_step_whatever_kind_of_number_it_is(extras):
    loss, _ = trainer(network(), **extras).step(*batch())
    assert loss.isfinite()


@pytest.mark.parametrize("extras", [{"mixup": 0.2}, {"cutmix": 1.0}])
def test_a_trainer_that_shall_mix_asks_for_what_mixes(extras):
    """Left alone it would train on pictures as they are, without a word."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(CourseError, match=r"mix is not given: add mix=extras\.mix\(classes\)"):
        Trainer(
            model,
            optimizer,
            schedules.constant(optimizer),
            Precision(CPU),
            extras=Extras(**extras),
        )


# --- parts of a batch -----------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 20, 50])
def test_a_batch_in_parts_makes_the_step_of_the_whole_batch(parts):
    x, labels = batch()
    whole, cut = trainer(network()), trainer(network(), accumulate=parts)

    loss, right = whole.step(x, labels)
    same_loss, same_right = cut.step(x, labels)

    assert same_loss.item() == pytest.approx(loss.item(), rel=1e-6) and same_right == right
    assert change(cut.model, whole.model).abs().max() < 1e-6 and cut.steps == 1


def test_no_part_is_larger_than_its_share():
    model, seen = network(), []
    model.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    trainer(model, accumulate=3).step(*batch())
    assert seen == [7, 7, 6]


# --- clipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
def test_a_long_gradient_is_cut_to_length_and_a_short_one_left_alone(dtype):
    """The rate is 1, so a step is as long as the gradient; under fp16 that of the unscaled one."""
    x, labels = batch()
    lengths = {}
    for clip in (None, 0.01, 1000.0):
        model = network()
        before = copy.deepcopy(model)
        trainer(model, lr=1.0, dtype=dtype, clip_norm=clip).step(x, labels)
        lengths[clip] = change(model, before).norm().item()
    assert lengths[0.01] == pytest.approx(0.01, rel=1e-3) and lengths[None] > 0.1
    assert lengths[1000.0] == pytest.approx(lengths[None], rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_in_fp16_a_gradient_that_overflows_changes_nothing_but_the_scale():
    model = network()
    before, one = copy.deepcopy(model), trainer(model, dtype=torch.float16, clip_norm=1.0)
    model[0].weight.register_hook(lambda grad: grad * math.inf)
    scale = one.scaler.get_scale()
    one.step(*batch())
    assert change(model, before).abs().max() == 0 and one.scaler.get_scale() == scale / 2


def test_a_trainer_goes_on_with_the_scale_it_had():
    """Every part of the state, the scaler's too: it was lowered, and grows again after a while."""
    one = trainer(network(norm=True), dtype=torch.float16, averaging=0.9)
    hook = one.model[0].weight.register_hook(lambda grad: grad * math.inf)
    one.step(*batch())
    hook.remove()
    other = trainer(network(norm=True, seed=1), dtype=torch.float16, averaging=0.9)
    other.load_state(copy.deepcopy(one.state()))
    for each in (one, other):
        each.step(*batch(seed=2))
    assert one.scaler.state_dict() == other.scaler.state_dict() and one.scaler.get_scale() < 65536
    assert all(
        map(
            torch.equal,
            one.model_to_evaluate.state_dict().values(),
            other.model_to_evaluate.state_dict().values(),
        )
    )


# --- averaged weights -----------------------------------------------------------------------------


def test_the_average_is_exponential_over_weights_and_statistics():
    one, decay = trainer(network(norm=True), averaging=0.8), 0.8
    expected = {}
    for step in range(5):
        one.step(*batch(seed=step))
        for key, value in one.model.state_dict().items():
            if value.is_floating_point():
                before = expected.get(key, value.double())  # it begins with the first step's
                expected[key] = decay * before + (1 - decay) * value.double()

    found = one.model_to_evaluate.state_dict()
    assert one.model_to_evaluate is not one.model and len(expected) == 8
    for key, value in expected.items():
        assert torch.allclose(found[key].double(), value, atol=1e-6), key


def test_the_average_is_what_is_evaluated_and_what_the_model_holds_in_the_end(toys):
    raw = run(toys, network(norm=True))
    averaged = run(toys, network(norm=True), Extras(averaging=0.9))
    assert averaged.history.column("train_loss") == raw.history.column("train_loss"), (
        "the training is the same"
    )
    assert averaged.history.column("val_loss") != raw.history.column("val_loss")
    seen = evaluate(averaged.model, BatchLoader(toys.tune, 20, augment=False))
    assert seen.loss == averaged.history.last["val_loss"]


def test_a_finished_training_gives_its_average_again(toys, tmp_path):
    path, extras = tmp_path / "training.pt", Extras(averaging=0.9)
    first = run(toys, network(norm=True), extras, checkpoint=path)
    again = run(toys, network(norm=True, seed=5), extras, checkpoint=path)

    assert "already finished" in again.lines[0]
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


# --- mixed pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("extras", [Extras(mixup=1.0), Extras(cutmix=1.0)], ids=["mixup", "cutmix"])
def test_mixed_labels_have_the_shares_that_the_pictures_have(extras):
    """Pictures of one value each: a mixed one shows by its mean what it is made of."""
    labels = torch.arange(10)
    x = labels.float()[:, None, None, None].expand(10, 3, 16, 16).contiguous()
    for _ in range(5):
        mixed, shares = extras.mix(10)(x, labels)
        assert shares.shape == (10, 10) and torch.allclose(shares.sum(1), torch.ones(10))
        assert (shares > 0).sum(1).max() <= 2
        torch.testing.assert_close(mixed.mean((1, 2, 3)), shares @ labels.float())


def test_both_ways_of_mixing_come_in_turn_by_chance():
    x = torch.arange(10.0)[:, None, None, None].expand(10, 3, 16, 16).contiguous()
    mix = Extras(mixup=1.0, cutmix=1.0).mix(10)
    smooth = [
        all(len(picture.unique()) == 1 for picture in mix(x, torch.arange(10))[0])
        for _ in range(40)
    ]
    assert 5 < sum(smooth) < 35, "mixup leaves each of these pictures even, cutmix does not"


def test_a_mixed_picture_counts_as_right_for_the_label_of_the_larger_share():
    one = trainer(nn.Sequential(nn.Flatten(), nn.Linear(1, 3, bias=False)), lr=0.0)
    one.model[1].weight.data = torch.tensor([[0.0], [1.0], [0.0]])  # says 1, always
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
    one.mix = lambda x, labels: (x, shares)
    loss, right = one.step(torch.ones(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64))
    log_p = F.log_softmax(torch.tensor([0.0, 1.0, 0.0]), 0)
    assert right == 2 and loss.item() == pytest.approx(-(shares * log_p).sum().item() / 3, rel=1e-6)


def test_a_training_with_mixed_pictures_learns(toys):
    losses = run(toys, network(), Extras(mixup=0.2, cutmix=1.0)).history.column("train_loss")
    assert losses[-1] < losses[0]


# --- compiling ------------------------------------------------------------------------------------


def no_compiler(model):
    def compiled(x):
        raise RuntimeError(
            "InvalidCxxCompiler: No working C++ compiler found\nSet TORCH_LOGS for more"
        )

    return compiled


def refuses(model):
    raise RuntimeError("torch.compile is not supported on this Python")


@pytest.mark.parametrize("broken", [no_compiler, refuses])
def test_where_compiling_fails_the_training_goes_on_without_and_says_so_once(
    toys, monkeypatch, broken
):
    plain = run(toys, network())
    monkeypatch.setattr(torch, "compile", broken)
    found = run(toys, network(), Extras(compile=True))
    assert (
        "torch.compile does not work here" in found.lines[0]
        and "going on without it" in found.lines[0]
    )
    assert (
        "TORCH_LOGS" not in found.lines[0]
        and sum("torch.compile" in line for line in found.lines) == 1
    )
    assert found.history.column("train_loss") == plain.history.column("train_loss")


def test_a_compiled_network_is_what_the_training_calls(toys, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model: lambda x: calls.append(1) or model(x))
    run(toys, network(), Extras(compile=True))
    assert len(calls) == 12


def test_a_network_that_torch_really_compiles_trains_alike_at_every_size(toys, monkeypatch):
    """With the backend that traces and generates no code: no compiler is needed here."""
    counters = torch._dynamo.utils.counters
    plain = run(toys, network(norm=True), sizes=(16, 12))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    counters.clear()
    found = run(toys, network(norm=True), Extras(compile=True), sizes=(16, 12))
    assert counters["stats"]["unique_graphs"] >= 2 and not any(
        "does not work" in line for line in found.lines
    )
    for name in ("train_loss", "val_loss"):
        assert found.history.column(name) == pytest.approx(plain.history.column(name), rel=1e-5)


def test_an_error_of_the_network_itself_is_not_taken_for_one_of_the_compiler(toys, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model: model)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(toys, nn.Sequential(nn.Flatten(), nn.Linear(7, 10)), Extras(compile=True))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried …"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
    ],
)
def test_too_little_memory_is_no_fault_of_the_compiler(toys, monkeypatch, error):
    """Without the compiler the training would go on, for there is memory enough for it."""
    monkeypatch.setattr(torch, "compile", lambda model: Mock(side_effect=error))
    with pytest.raises(CourseError, match="out of memory in epoch 1/2"):
        run(toys, network(), Extras(compile=True))


# --- around a step --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"accumulate": 2}, {"clip_norm": 1.0}, {"averaging": 0.9}, {"mixup": 0.2}]
)
def test_other_extras_are_another_training(toys, tmp_path, change):
    run(toys, network(), Extras(), checkpoint=tmp_path / "training.pt")
    with pytest.raises(CheckpointError, match="extras, .* was"):
        run(toys, network(), Extras(**change), checkpoint=tmp_path / "training.pt")


def put_in_place_of_tensorboard(monkeypatch, writer):
    package = SimpleNamespace(SummaryWriter=lambda folder, purge_step: writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)


def test_curves_reach_tensorboard(toys, tmp_path, monkeypatch):
    """A stand-in for the package, which takes what the real writer takes."""
    shown = []
    writer = SimpleNamespace(
        add_scalar=lambda name, value, step: shown.append((name, value, step)), flush=lambda: None
    )
    put_in_place_of_tensorboard(monkeypatch, writer)
    history = run(toys, network(), after_epoch=curves(tmp_path)).history
    assert {("val_loss", row["val_loss"], row["epoch"]) for row in history.rows} <= set(shown)
    assert [step for name, _, step in shown if name == "lr"] == [1, 2]
    shown.clear()
    again = curves(
        tmp_path
    )  # a training that went on, or was reused: what it had comes along, once
    again(history)
    again(history)
    assert [step for name, _, step in shown if name == "lr"] == [1, 2]


def test_tensorboard_itself_reads_the_curves(toys, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(toys, network(), after_epoch=curves(tmp_path)).history
    written = EventAccumulator(str(tmp_path)).Reload()
    for name in ("train_loss", "val_top1", "lr"):
        assert [event.step for event in written.Scalars(name)] == [1, 2]
        assert [event.value for event in written.Scalars(name)] == pytest.approx(
            history.column(name), rel=1e-6
        )


def test_tensorboard_shows_the_epochs_of_a_training_that_went_on_once(toys, tmp_path):
    """Each process writes a file of its own, with all epochs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(toys, network()).history
    for _ in range(2):
        curves(tmp_path)(history)
        time.sleep(1.1)  # files are named by the second, and read in that order

    written = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in written.Scalars("lr")] == [1, 2]


def test_curves_that_were_refused_before_end_in_the_same_sentence(tmp_path, monkeypatch):
    """TensorBoard writes in a thread, and raises what went wrong there at the next value."""
    full = OSError(errno.ENOSPC, "No space left on device")
    writer = SimpleNamespace(add_scalar=Mock(side_effect=full), flush=lambda: None)
    put_in_place_of_tensorboard(monkeypatch, writer)
    with pytest.raises(CourseError, match=r"cannot write TensorBoard's curves.*No space left"):
        curves(tmp_path)(History([{"epoch": 1, "lr": 0.1}]))


def test_without_tensorboard_there_is_a_clear_error_and_without_a_folder_nothing_is_imported(
    monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(CourseError, match="TensorBoard is not installed: pip install tensorboard"):
        curves(tmp_path)
    curves(None)(None)
