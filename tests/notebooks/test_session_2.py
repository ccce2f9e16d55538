"""What session 2 shows of the library is what the library does."""

import copy
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rules import ROOT, markdown, read
from toy_training import small_net

from course_lib.data import toy_shapes
from course_lib.experiments import RECIPES
from course_lib.models import create_model
from course_lib.runtime import Precision
from course_lib.training import CrossEntropy, Trainer, optim, schedules

NOTEBOOK = ROOT / "notebooks" / "02_tinyimagenet_onecycle.ipynb"
CPU = torch.device("cpu")


def source_of(beginning):
    """The code of the one cell that begins so."""
    cells = [cell.source for cell in read(NOTEBOOK).cells if cell.cell_type == "code"]
    (source,) = [source for source in cells if source.startswith(beginning)]
    return source


def imported():
    """What the notebook's cells find: its imports, on a CPU, in the profile smoke."""
    names = {}
    exec(source_of("import math"), names)
    rt = SimpleNamespace(device=CPU, profile="smoke")
    return names | {"rt": rt, "smoke": True}


def in_view():
    """The text that a reader sees without opening anything."""
    return re.sub(r"<details>.*?</details>", "", markdown(read(NOTEBOOK)), flags=re.DOTALL)


# --- the loop -----------------------------------------------------------------------------------


def train_for(precision):
    """The loop as the notebook writes it, on a machine of that precision."""
    names = {"rt": SimpleNamespace(precision=precision), "F": F}
    exec(source_of("def train_for("), names)
    return names["train_for"]


@pytest.mark.parametrize(
    "dtype", [None, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"]
)
def test_the_loop_that_the_notebook_writes_makes_the_librarys_steps(dtype):
    precision = Precision(torch.device("cpu"), dtype)
    torch.manual_seed(0)
    theirs = small_net()
    ours = copy.deepcopy(theirs)
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(10, (8,))) for _ in range(5)]

    optimizer = optim.sgd(theirs, 0.1)
    scheduler = schedules.one_cycle(optimizer, 0.1, 5)
    losses = train_for(precision)(
        theirs, batches, optimizer, scheduler, batches=5, label_smoothing=0.1
    )

    optimizer = optim.sgd(ours, 0.1)
    scheduler = schedules.one_cycle(optimizer, 0.1, 5)
    trainer = Trainer(ours.train(), optimizer, scheduler, precision, loss=CrossEntropy(0.1))
    assert losses == [trainer.step(*batch)[0].item() for batch in batches]

    for name, weights in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weights), name


# --- the schedule of the real run ---------------------------------------------------------------


def test_the_schedule_that_is_written_is_that_of_the_recipe_in_every_step(capsys):
    solution = re.search(
        r"```python\n(def one_cycle_lr.*?)```", markdown(read(NOTEBOOK)), re.DOTALL
    )
    names = imported() | {"recipe": RECIPES["tiny_imagenet"]}
    exec(solution[1], names)

    exec(source_of("steps_per_epoch = 99_000"), names)  # it asserts as much
    assert capsys.readouterr().out.startswith("5,018 steps, and the rate is that of your code")

    names["one_cycle_lr"] = lambda step, *rest: 0.1
    with pytest.raises(AssertionError):
        exec(source_of("steps_per_epoch = 99_000"), names)


# --- the four short runs ------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_pictures_that_judge_the_short_runs_are_of_all_classes():
    """The tune split comes in rounds of one picture a class: every second or fourth skips some."""
    names = imported()
    exec(source_of("share = 16").split("def short_run")[0], names)

    counts = np.bincount(names["part_tune"].labels, minlength=10)
    assert counts.max() - counts.min() <= 1


# --- which bug is it? ---------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=["toy shapes", pytest.param("real", marks=pytest.mark.real_data)]
)
def curves(request):
    """What the cells of section 12 leave."""
    names = imported()
    part = names["tiny_imagenet_part"]
    if request.param == "toy shapes":

        def part(split, classes, profile):
            return toy_shapes(split, count=1000 if split == "train" else 100)

    names["tiny_imagenet_part"] = part
    exec(source_of("ten_classes = "), names)
    exec(source_of("BUGS = "), names)
    exec(source_of("hidden = "), names)
    return names


def diagnosis(rows, sound):
    """As the hint has it: the training curve first."""
    trainings = [[row["train_loss"] for row in run] for run in (rows, sound)]
    last = rows[-1]

    if np.allclose(*trainings):
        is_huge = last["val_loss"] > 20
        return "not normalised at test" if is_huge else "eval forgotten, single pictures"
    if last["train_loss"] > rows[0]["train_loss"] + 1:
        return "gradients not zeroed"
    return "softmax before the loss" if last["train_top1"] > 0.2 else "labels shuffled"


def test_each_bug_can_be_told_by_its_curves(curves):
    rows = curves["curves"]
    found = {letter: diagnosis(rows[letter], rows["none"]) for letter in curves["hidden"]}
    assert found == curves["hidden"]


def test_the_numbers_that_help_to_tell_a_bug_are_right(curves):
    rows, hidden = curves["curves"], curves["hidden"]
    by_bug = {bug: rows[letter] for letter, bug in hidden.items()}

    shuffled = by_bug["labels shuffled"][-1]
    assert shuffled["train_loss"] == pytest.approx(np.log(10), abs=0.1)
    assert shuffled["train_top1"] == pytest.approx(0.1, abs=0.06)

    assert np.log(np.e + 9) - 1 == pytest.approx(1.46, abs=0.005)
    assert min(row["train_loss"] for row in by_bug["softmax before the loss"]) > 1.46
    assert by_bug["eval forgotten, single pictures"][-1]["val_top1"] < 0.25
    assert rows["none"][-1]["val_top1"] > 0.25


def test_the_answers_name_the_letters_as_they_were_dealt(curves):
    told = re.findall(r"\*\*([A-E]): ([^*]+)\.\*\*", markdown(read(NOTEBOOK)))
    assert dict(told) == curves["hidden"]


@pytest.mark.parametrize(
    "answer, said",
    [
        ({}, "not attempted"),
        ({"A": "softmax before the loss"}, "✗ which bug is it: 1 of 5 right."),
        ({"A": "softmax"}, "not among the five names: softmax"),
        ("all", "✓ which bug is it: 5 of 5 right."),
    ],
)
def test_an_answer_is_counted(curves, capsys, answer, said):
    given = curves["hidden"] if answer == "all" else dict.fromkeys("ABCDE", "") | answer
    _, check = source_of("my_answer = ").split("\n", 1)
    exec(check, curves | {"my_answer": given})
    assert said in capsys.readouterr().out


# --- your own picture ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode, size", [("RGB", (300, 200)), ("RGBA", (50, 90)), ("L", (64, 64))])
def test_a_file_of_ones_own_goes_through_the_network(tmp_path, monkeypatch, capsys, mode, size):
    monkeypatch.chdir(tmp_path)
    Image.new(mode, size).save("mine.png")
    val = toy_shapes("val", count=9)
    names = imported() | {"val": val, "model": create_model("session_resnet", len(val.classes))}

    exec(source_of("MY_PICTURE").replace('MY_PICTURE = ""', 'MY_PICTURE = "mine.png"'), names)

    assert names["picture"].shape == (64, 64, 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all("%" in line for line in lines)


# --- words under a result -----------------------------------------------------------------------

SEEN_ON_THE_WHOLE_DATA = [  # on a slice, or on toy shapes, it may come out otherwise
    "ends ahead",
    "within noise of each other",
    "the held-out loss fell in every epoch, so",
    "In every row it is right",
    "and no more often than the middle",
    "hardly a difference",
    "has begun to learn its pictures by heart",
    "The first directions are brightness",
]


@pytest.mark.parametrize("words", SEEN_ON_THE_WHOLE_DATA)
def test_what_we_saw_is_not_told_as_what_the_reader_sees(words):
    assert words not in in_view()


@pytest.mark.parametrize("words", ["not tested", "was not tried", "is not measured here"])
def test_nothing_is_left_untested_in_words(words):
    assert words not in markdown(read(NOTEBOOK))
