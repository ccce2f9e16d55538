"""Weights of trained networks: what comes back, and what is refused in words."""

import hashlib
import json
import pickle
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from course_lib.files import REPO, CourseError
from course_lib.models import create_model, list_models, weights_card
from course_lib.models import weights as weight_files
from course_lib.models.weights import in_half, pack, write_weights

CLASSES = ["lemon", "goldfish", "bullfrog"]
OPTIONS = {"shortcut": "A", "stem": "small"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data/weights."""
    monkeypatch.setattr(weight_files, "weights_home", lambda: tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def trained():
    """A network with weights, and statistics in its norms, that no fresh one has."""
    torch.manual_seed(3)
    model = create_model("resnet20", 3, **OPTIONS).train()
    model(torch.randn(8, 3, 16, 16))
    return model.eval()


@pytest.fixture
def kept(home, trained):
    """The safetensors file of ``trained``."""
    path = home / "resnet20_shapes.safetensors"
    keep(path, pack(trained.state_dict()))
    return path


def keep(path, content, **changes):
    card = {
        "model": "resnet20",
        "model_options": OPTIONS,
        "num_classes": 3,
        "classes": CLASSES,
        "official_top1": 0.75,
    }
    write_weights(path, content, card | changes)


def change_card(path, **changes):
    card_path = path.with_suffix(".json")
    card_path.write_text(json.dumps(json.loads(card_path.read_text()) | changes))


def refused(match, name="resnet20", weights="shapes", **asked):
    """One sentence or two, in one line."""
    with pytest.raises(CourseError, match=match) as caught:
        create_model(name, weights=weights, **asked)
    assert "\n" not in str(caught.value)


# --- what comes back ------------------------------------------------------------------------------


def by_name(path):
    return "shapes"


@pytest.mark.parametrize("told", [by_name, Path, str], ids=["name", "Path", "str"])
def test_the_trained_network_comes_back_ready_to_classify(kept, trained, told):
    """In full precision; what half precision rounds is a thousandth of a logit's size."""
    model = create_model("resnet20", weights=told(kept))

    assert not model.training and model.head.out_features == 3
    assert {value.dtype for value in model.parameters()} == {torch.float32}

    x = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        expected = trained(x)
        torch.testing.assert_close(model(x), expected, atol=5e-3 * expected.abs().max(), rtol=0)


def test_kernels_are_kept_in_half_precision_and_vectors_as_they_are(kept, trained):
    """A norm's variance may be above the largest number of half precision."""
    trained.bn1.running_var.fill_(1e6)
    keep(kept, pack(trained.state_dict()))

    halves = kept.stat().st_size / sum(p.numel() for p in trained.parameters())
    assert 2 < halves < 2.3  # bytes a weight

    state = create_model("resnet20", weights="shapes").state_dict()
    for name, value in trained.state_dict().items():
        kernel = value.ndim > 1
        assert torch.equal(state[name], value.half().float() if kernel else value), name


def test_a_network_in_another_memory_format_is_kept_alike(trained):
    plain = pack(trained.state_dict())
    assert pack(trained.to(memory_format=torch.channels_last).state_dict()) == plain


def test_what_is_asked_for_may_repeat_the_card(kept):
    create_model("resnet20", 3, weights="shapes", shortcut="A", zero_init_residual=False)


def test_an_option_that_is_newer_than_the_card_is_at_its_default(kept):
    change_card(kept, model_options={"shortcut": "A"})
    create_model("resnet20", weights="shapes", stem="small")
    refused("drop_rate is 0.5, but .* was trained with 0.0", drop_rate=0.5)


def test_options_that_are_tuples_come_back_from_their_card(home):
    """JSON has lists alone."""
    options = {"lambda_stages": (1, 3)}
    model = create_model("session_resnet_lambda", 3, **options)
    path = home / "session_resnet_lambda_shapes.safetensors"
    card = json.loads(json.dumps(options))
    keep(path, pack(model.state_dict()), model="session_resnet_lambda", model_options=card)

    create_model("session_resnet_lambda", weights="shapes", **options)
    said = r"lambda_stages is \(3,\), but .* was trained with \[1, 3\]"
    refused(said, "session_resnet_lambda", lambda_stages=(3,))


def test_the_head_can_be_replaced_afterwards(kept):
    model = create_model("resnet20", weights="shapes")
    model.replace_head(7)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize("told", [by_name, Path])
def test_the_card_tells_the_classes(kept, told):
    card = weights_card("resnet20", told(kept))
    assert card["classes"] == CLASSES and card["official_top1"] == 0.75


def test_without_weights_a_network_has_a_thousand_classes_and_needs_no_file(home):
    model = create_model("resnet20")
    assert model.head.out_features == 1000 and model.training


# --- what is not there ----------------------------------------------------------------------------


def test_an_unknown_name_is_told_with_those_there_are(kept, trained):
    keep(kept.with_name("resnet20_others.safetensors"), pack(trained.state_dict()))
    keep(kept.with_name("session_resnet_lambda_third.safetensors"), b"")

    refused("no weights 'imagenet' for resnet20: there are others, shapes$", weights="imagenet")
    refused(r"no weights 'imagenet' .*those of resnet20 \(others, shapes\), "
            r"session_resnet_lambda \(third\)$", "session_resnet", weights="imagenet")  # fmt: skip


def test_where_there_are_no_weights_at_all_that_is_said(home):
    refused("no weights 'shapes' for resnet20: .*weights holds none at all; get them from")


@pytest.mark.parametrize("wrong", [True, 3, ["shapes"]])
def test_weights_that_are_no_name_and_no_path_are_refused(home, wrong):
    refused("expected a name, such as 'tinyimagenet', or the path", weights=wrong)


def test_a_missing_file_is_named_beside_its_card(kept):
    kept.unlink()
    refused("resnet20_shapes.safetensors is not there: get it from the course's repository")
    refused("resnet20_shapes.safetensors is not there", weights=str(kept))


def test_a_missing_card_is_named(kept):
    kept.with_suffix(".json").unlink()
    refused("resnet20_shapes.json is not there, the card that says of which network")


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cannot be read as a card"),
        ("[]", "is no card: it lacks model, model_options, num_classes, classes, bytes, sha256"),
        (
            '{"model": "resnet20", "num_classes": "3"}',
            "is no card: it lacks model_options, num_classes, ",
        ),
    ],
)
def test_a_damaged_card_is_named(kept, content, said):
    kept.with_suffix(".json").write_text(content)
    refused(f"resnet20_shapes.json {said}.*fetch both files again")


# --- what is damaged, or of something else --------------------------------------------------------


def test_a_file_that_was_cut_is_told_with_its_bytes(kept):
    whole = kept.read_bytes()
    kept.write_bytes(whole[:10_000])
    refused(f"is damaged.* has 10,000 bytes, and its card says {len(whole):,}; fetch both")


def test_a_single_changed_bit_is_seen(kept):
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    refused("is damaged.* its sha256 is not that on its card; fetch both files again")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 100, b"PK\x03\x04" * 9])
def test_a_file_of_another_kind_is_named_whatever_its_card_says(kept, content):
    keep(kept, content)
    refused("resnet20_shapes.safetensors cannot be read as safetensors .*fetch both files again")


def test_weights_of_another_network_are_counted_and_named(kept, trained):
    state = trained.state_dict()
    del state["conv1.weight"], state["bn1.weight"]
    state |= {"conv9.weight": torch.zeros(2, 2), "fc.weight": torch.zeros(5, 64)}
    keep(kept, pack(state))
    refused(
        r"do not fit resnet20 as its card describes it \(2 missing, such as conv1.weight; "
        r"1 unknown, such as conv9.weight; 1 of another shape, such as fc.weight \(5, 64\) in "
        r"place of \(3, 64\)\): .*fetch both files again"
    )


def test_a_card_of_another_network_names_the_right_one(kept):
    said = r'is of resnet20, not of resnet32: create_model\("resnet20", weights=…\) loads it'
    refused(said, "resnet32", weights=kept)
    with pytest.raises(CourseError, match=said):
        weights_card("resnet32", kept)


@pytest.mark.parametrize(
    "options, said",
    [({"gone": 1}, "resnet20 has no option 'gone'"), ({"stem": "odd"}, "unknown stem 'odd'")],
)
def test_a_network_that_there_is_not_today_is_said(kept, options, said):
    change_card(kept, model_options=options)
    refused(f"is of a network that there is not today: {said}")


def test_a_card_cannot_send_elsewhere(kept):
    """``weights`` is no option of a network."""
    change_card(kept, model_options={"weights": "others"})
    refused("resnet20 has no option 'weights'")


def test_other_classes_are_refused_with_what_to_do(kept):
    refused(r"num_classes is 10, but .* is of 3 classes: .*model.replace_head", num_classes=10)


def test_options_that_differ_from_the_card_are_refused(kept):
    refused("stem is 'imagenet', but .* was trained with 'small': leave the", stem="imagenet")


def test_an_option_that_the_network_does_not_have_is_refused_first(home):
    with pytest.raises(ValueError, match="resnet20 has no option 'lambda_stages'"):
        create_model("resnet20", weights="shapes", lambda_stages=(3,))


# --- nothing runs code ----------------------------------------------------------------------------


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "resnet20_shapes.pt"])
def test_a_pickle_is_refused_unread_and_a_run_is_pointed_to_its_reader(home, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Harmful()))
    refused(f"{name} is no .safetensors file.*course_lib.experiments.load", weights=path)
    refused(f"{name} is no .safetensors file", weights=str(path))
    refused(f"{name} is no .safetensors file", weights=name)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_by_another_name_runs_nothing(kept, tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "harmful", "wb") as file:
        write(Harmful(), file)
    keep(kept, (tmp_path / "harmful").read_bytes())

    refused("cannot be read as safetensors")
    assert not (tmp_path / "harm").exists()


def test_without_safetensors_a_sentence_says_what_to_install(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    refused("safetensors is not installed: pip install safetensors")


# --- what is written ------------------------------------------------------------------------------


def test_the_file_is_plain_safetensors_and_its_card_has_its_digest(kept, trained):
    found = safetensors.torch.load_file(kept)
    expected = in_half(trained.state_dict())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())

    card = weights_card("resnet20", "shapes")
    assert card["bytes"] == kept.stat().st_size
    assert card["sha256"] == hashlib.sha256(kept.read_bytes()).hexdigest()


def test_an_attempt_that_fails_leaves_the_old_pair(kept, trained, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in kept.parent.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(CourseError, match="cannot write .*No space left on device"):
            keep(kept, b"new")

    assert {path: path.read_bytes() for path in kept.parent.iterdir()} == before


def test_the_committed_weights_load_and_are_small():
    """Each as its name says, at most 15 MB; 60 MB together, for whoever clones the course."""
    files = sorted((REPO / "data" / "weights").glob("*"))
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert files == sorted([*weights, *(path.with_suffix(".json") for path in weights)])

    for path in weights:
        name, _, data = path.stem.rpartition("_")
        assert name in list_models()
        model = create_model(name, weights=data)
        assert len(weights_card(name, data)["classes"]) == model.head.out_features
        assert path.stat().st_size <= 15_000_000
    assert sum(path.stat().st_size for path in weights) <= 60_000_000
