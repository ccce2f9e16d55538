"""Maps graded: the truth has full marks, differences are paired, nothing is done twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import SMOKE, check_localization
from torch import nn

from course_lib import localize as command
from course_lib.data import toy_shapes
from course_lib.experiments import localize as localizing
from course_lib.experiments.localize import BASELINES, IN_WORDS, WAYS, Pictures, Study, localize
from course_lib.explain import best_threshold, enlarge_objects, iou, middle_spot, pointing_game
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.models.weights import pack, write_weights

FEW = Pictures(20, 20, part_by_channel=10, pass_by_channel=4, by_pixels=6, predicted=20)
GRADES = ("pointing game", "energy", "IoU")
GRADED = {"mean", "error", "over_middle", "over_middle_error"}


class SmallStages(nn.Module):
    """Three stages of four channels, pooling, one linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(4, 10)

    @property
    def stages(self):
        return {"first": self.first, "second": self.second, "third": self.third}

    def forward(self, x):
        return self.fc(self.third(self.second(self.first(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def toys():
    return {split: toy_shapes(split, count=20, size=16) for split in ("tune", "val")}


@pytest.fixture
def study(toys):
    torch.manual_seed(0)
    about = {"network": "small", "weights": "small_toys", "weights_sha256": "0" * 64}
    about |= {"recipe": None, "seed": 0, "official_top1": None}
    return Study(SmallStages().eval(), toys["val"], toys["tune"], 16, about, FEW)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small_toys-16px.json"


def grade(study, path, **how):
    return localize(study, SMOKE, path, report=lambda line: None, **how)


class Explain:
    """In place of ``explain``: maps of our making, and who asked for what."""

    def __init__(self, maps):
        self.maps, self.asked = maps, []

    def __call__(self, model, x, labels, method, layers):
        self.asked.append((method, layers, labels.tolist()))
        return self.maps(x, labels)


def explained_by(monkeypatch, maps):
    fake = Explain(maps)
    monkeypatch.setattr(localizing, "explain", fake)
    return fake


def truth_of(*stores):
    """What shows each of these pictures: the mask of its object, found by the picture itself."""

    def mask_of(picture):
        for store in stores:
            loader = localizing.BatchLoader(store, len(store), augment=False)
            loader.picture_size = picture.shape[-1]
            ((pictures, _),) = loader

            same = (pictures == picture).flatten(1).all(dim=1)
            if same.any():
                row = int(same.nonzero()[0, 0])
                factor = picture.shape[-1] // store.images.shape[1]
                return enlarge_objects(store.masks[row : row + 1], factor)[0]

    return lambda x, labels: np.array([mask_of(picture) for picture in x], np.float32)


# --- grades ---------------------------------------------------------------------------------------


def test_mean_error_and_paired_difference_by_hand():
    ours, middle = {"energy": np.array([1.0, 0, 1, 1])}, {"energy": np.array([0.0, 0, 1, 0])}

    found = localizing._compared(ours, middle)["energy"]

    assert found["mean"] == 3 / 4 and found["error"] == pytest.approx(0.5 / 2)
    # differences 1, 0, 0, 1: s = sqrt(1/3); the values' own errors would give sqrt(1/16 + 1/16)
    assert found["over_middle"] == 1 / 2
    assert found["over_middle_error"] == pytest.approx(np.sqrt(1 / 3) / 2)
    assert localizing.errors_over_middle(found) == pytest.approx(np.sqrt(3))


def test_a_map_equal_to_the_spot_in_the_middle_is_no_error_ahead(study, path):
    spot = grade(study, path)["maps"]["middle"]
    for column in GRADES:
        assert spot[column]["over_middle"] == spot[column]["over_middle_error"] == 0
        assert localizing.errors_over_middle(spot[column]) == 0


@pytest.mark.parametrize("size", [16, 32])
def test_the_truth_has_full_marks_also_in_enlarged_pictures(study, monkeypatch, size):
    study = replace(study, size=size)
    explained_by(monkeypatch, truth_of(study.val, study.tune))

    found = localizing.graded(study, "gradcam")

    masks = enlarge_objects(study.val.masks, size // 16)
    spot = pointing_game(middle_spot(masks.shape), masks)
    for column in GRADES:
        assert found[column]["mean"] == pytest.approx(1) and found[column]["error"] < 1e-6
    assert found["pointing game"]["over_middle"] == pytest.approx(1 - spot.mean())


def test_chance_is_the_mean_share_that_objects_cover(study):
    found = localizing.graded(study, "chance")
    for column in GRADES:
        assert found[column]["mean"] == pytest.approx(study.val.masks.mean())


def test_where_there_are_no_masks_boxes_are_the_truth(study):
    boxed = replace(study, val=replace(study.val, masks=None), tune=replace(study.tune, masks=None))
    x0, y0, x1, y1 = study.val.boxes.astype(int).T
    share = np.mean((x1 - x0 + 1) * (y1 - y0 + 1) / 16**2)
    assert localizing.graded(boxed, "chance")["energy"]["mean"] == pytest.approx(share)


def test_maps_are_of_the_true_class_whatever_the_network_takes_it_for(study, monkeypatch):
    fake = explained_by(monkeypatch, lambda x, labels: np.ones((len(x), 16, 16), np.float32))
    localizing.graded(study, "gradcam")

    labels = [label for method, layers, each in fake.asked for label in each]
    tune, val = labels[:5], labels[5:25]
    assert val == study.val.labels.tolist() and tune == study.tune.labels[::4].tolist()


def test_the_threshold_is_chosen_on_tune_and_never_on_what_is_graded(study, monkeypatch):
    def maps(x, labels):
        """Of tune's five pictures small spots, of the others a slope."""
        flat = np.linspace(0.1, 1, 256, dtype=np.float32).reshape(1, 16, 16)
        slopes = flat if len(x) == 5 else 1.1 - flat
        return np.repeat(slopes, len(x), 0)

    explained_by(monkeypatch, maps)
    found = localizing.graded(study, "gradcam")

    tune, val = study.tune.every(4), study.val
    on_tune = best_threshold(maps(tune.images, None), tune.masks)
    on_val = best_threshold(maps(val.images, None), val.masks)
    assert on_tune != on_val, "else this test could not fail"
    assert found["threshold"] == on_tune and found["tune_images"] == 5

    overlap = iou(maps(val.images, None), val.masks, on_tune)
    assert found["IoU"]["mean"] == pytest.approx(overlap.mean())


def test_seconds_are_those_of_the_maps_that_are_graded_alone(study, monkeypatch):
    now = [0.0]

    def maps(x, labels):
        now[0] += len(x)  # a second a picture
        return np.ones((len(x), 16, 16), np.float32)

    explained_by(monkeypatch, maps)
    monkeypatch.setattr(localizing.time, "perf_counter", lambda: now[0])
    found = localizing.graded(study, "gradcam")
    assert found["seconds"] == found["timed"] == 20


def test_methods_of_the_last_stage_share_it_and_have_the_same_maps_as_alone(study, monkeypatch):
    torch.manual_seed(0)
    model = create_model("session_resnet", 10, stem="strided").eval()
    study = replace(study, model=model)
    monkeypatch.setattr(localizing, "BATCH", 8)
    monkeypatch.setattr(localizing, "TIMED", 1)

    passes = []
    model.stage1.register_forward_hook(lambda *_: passes.append(1))
    keys = [key for key, way in WAYS.items() if way.stages == (-1,) and way.work == "one pass"]
    batches = list(study.batches(study.val))
    sharing = study.last_stage

    shared = {key: [] for key in keys}
    for key in keys:
        for number, (x, labels, _) in enumerate(batches):
            with sharing.shared(key, number):
                shared[key].append(localizing.maps_of(model, key, x, labels))
    assert len(keys) == 6 and len(passes) == 3 + 5 * 1, "3 batches once, and 1 timed of 5 others"

    for key, maps in shared.items():
        for (x, labels, _), found in zip(batches, maps, strict=True):
            np.testing.assert_array_equal(found, localizing.maps_of(model, key, x, labels))
    assert "features" not in vars(model) and "forward" not in vars(model.stage3)


def test_methods_that_look_elsewhere_ask_the_whole_network_every_time(study):
    for key in ("layercam_earlier", "layercam_three", "fullgrad", "ablationcam", "chance"):
        for _ in range(2):
            with study.last_stage.shared(key, 9) as is_spared:
                assert not is_spared
        assert not study.last_stage.given


def test_deletion_and_insertion_see_what_the_network_gets_right(study, monkeypatch):
    seen = []
    monkeypatch.setattr(
        localizing,
        "deletion",
        lambda model, x, maps, labels, steps: seen.append((x, labels)) or np.arange(float(len(x))),
    )
    net, labels = study.model, study.val.labels
    net.forward = lambda x: nn.functional.one_hot(torch.arange(len(x)) * 0 + labels[0], 10).float()
    right = np.flatnonzero(labels == labels[0])
    assert len(right) == 2, "of 20 pictures of ten classes"

    found = localizing.graded_by_pixels(study, "middle")

    assert found["n"] == 2 and all(len(x) == 2 for x, _ in seen)
    assert all(each.tolist() == [labels[0]] * 2 for _, each in seen)
    assert study.predicted.top1 == pytest.approx(2 / 20)


def test_what_takes_hours_is_graded_on_few_pictures_or_left_out(study):
    assert FEW.of("gradcam") == FEW.of("middle") == 20
    assert FEW.of("ablationcam") == 10 and FEW.of("scorecam") == 4

    assert set(study.keys) == {*BASELINES, *WAYS} == set(IN_WORDS)
    none = replace(study, pictures=FEW._replace(pass_by_channel=0))
    assert set(IN_WORDS) - set(none.keys) == {"scorecam"}


# --- the record -----------------------------------------------------------------------------------


def test_every_method_is_graded_on_as_many_pictures_as_it_says(study, path):
    record = grade(study, path)

    assert json.loads(path.read_text()) == record
    assert list(record["maps"]) == list(IN_WORDS)
    for key, found in record["maps"].items():
        assert found["n"] == FEW.of(key)
        for column in GRADES:
            assert found[column].keys() == GRADED
            assert 0 <= found[column]["mean"] <= 1
        assert found["seconds"] > 0

    facts = {"network": "small", "dataset": "toy shapes", "is_real": False, "truth": "masks"}
    facts |= {"picture_size": 16, "val_images": 20, "tune_images": 20, "target": "the true class"}
    assert facts.items() <= record.items()
    check_localization(record)


def without_seconds(record):
    maps = {key: found | {"seconds": 0, "timed": 0} for key, found in record["maps"].items()}
    return record | {"maps": maps}


def test_a_study_that_is_stopped_loses_one_method_at_most_and_goes_on(study, path, monkeypatch):
    whole = grade(study, path.with_name("whole.json"))

    graded = localizing.graded

    def stopped(study, key):
        if key == "hirescam":
            raise KeyboardInterrupt
        return graded(study, key)

    monkeypatch.setattr(localizing, "graded", stopped)
    with pytest.raises(KeyboardInterrupt):
        grade(study, path)
    before = ["chance", "middle", "gradcam", "gradcam++"]
    assert list(json.loads(path.read_text())["maps"]) == before

    again = []
    monkeypatch.setattr(
        localizing, "graded", lambda study, key: again.append(key) or graded(study, key)
    )
    record = grade(study, path)
    assert again == list(IN_WORDS)[4:]
    assert without_seconds(record) == without_seconds(whole)

    again.clear()
    grade(study, path)
    assert again == [], "what is there is not graded twice"


def test_maps_of_other_weights_do_not_stand_in_one_record(study, path):
    only_chance = {"maps": {"chance": {}}}
    facts = localizing._facts(study, SMOKE)
    path.write_text(json.dumps(facts | only_chance | {"weights_sha256": "1"}))

    with pytest.raises(CourseError, match=r"another weights_sha256, .* --no-resume"):
        grade(study, path)
    assert json.loads(path.read_text())["maps"] == {"chance": {}}

    record = grade(study, path, resume=False)
    assert record["weights_sha256"] == "0" * 64 and list(record["maps"]) == list(IN_WORDS)


# --- the two kinds of pictures --------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, toys):
    """A network for the ten classes of toy shapes, as if it were published."""
    model = create_model("resnet20", 10)
    path = tmp_path / "resnet20_small.safetensors"
    card = {
        "model": "resnet20",
        "model_options": {},
        "num_classes": 10,
        "classes": toys["val"].classes,
        "recipe": "tiny_imagenet",
        "seed": 0,
        "official_top1": 0.1,
    }
    write_weights(path, pack(model.state_dict()), card)
    return path


@pytest.fixture
def stores(monkeypatch, toys):
    def put(**changes):
        found = {split: replace(store, masks=None, **changes) for split, store in toys.items()}
        monkeypatch.setattr(localizing, "tiny_imagenet", lambda split, **options: found[split])

    return put


def test_published_weights_are_graded_on_boxes(weights, stores, monkeypatch):
    pytest.importorskip("safetensors")
    stores(is_real=True)
    study = localizing.of_tiny_imagenet(weights, "resnet20", 64, SMOKE)
    assert study.name == "resnet20_small-64px"
    assert study.about["official_top1"] == 0.1 and len(study.about["weights_sha256"]) == 64


def test_toy_shapes_in_the_place_of_tinyimagenet_are_refused(weights, stores):
    stores()
    with pytest.raises(CourseError, match="TinyImageNet is not here.*data/README.md"):
        localizing.of_tiny_imagenet(weights, "resnet20", 64, SMOKE)


def test_weights_of_other_classes_are_refused(weights, stores):
    stores(is_real=True, classes=["a", "b"])
    with pytest.raises(CourseError, match=r"knows 10 classes, not the 2 .*profile cpu"):
        localizing.of_tiny_imagenet(weights, "resnet20", 64, SMOKE)


@pytest.fixture
def small_toys(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(localizing, "TOY_SIZES", (16, 16, 16))
    monkeypatch.setattr(localizing, "PICTURES", {16: FEW, 32: FEW})
    monkeypatch.setattr(
        localizing,
        "toy_shapes",
        lambda split, *, count, seed: toy_shapes(
            split, count=64 if split == "train" else 20, size=16, seed=seed
        ),
    )
    return tmp_path


def test_the_network_for_toy_shapes_follows_from_its_seed_and_is_kept(small_toys, monkeypatch):
    study = localizing.of_toy_shapes(16, SMOKE, report=lambda line: None)
    assert study.name == "session_resnet_toyshapes-16px" and study.val.masks is not None

    lines = []
    again = localizing.of_toy_shapes(32, SMOKE, report=lines.append)
    assert again.about == study.about
    (kept,) = (small_toys / "runs").glob("*.pt")
    assert "seed0" in kept.name

    kept.unlink()
    from_the_start = localizing.of_toy_shapes(16, SMOKE, report=lambda line: None)
    assert from_the_start.about["weights_sha256"] == study.about["weights_sha256"]

    other = localizing.of_toy_shapes(16, replace(SMOKE, seed=1), report=lambda line: None)
    assert other.about["weights_sha256"] != study.about["weights_sha256"]


# --- the command ----------------------------------------------------------------------------------


def test_the_command_says_where_weights_are_missing(tmp_path, capsys):
    order = ["--profile", "smoke", "--out", str(tmp_path), "--weights", "nothing"]
    assert command.main([*order, "--only", "tiny_imagenet"]) == 1
    assert "error: no weights 'nothing' for session_resnet" in capsys.readouterr().err


def test_the_command_that_is_stopped_says_that_it_goes_on(tmp_path, monkeypatch, capsys, study):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "of_toy_shapes", lambda size, rt: study)
    monkeypatch.setattr(command, "localize", stopped)
    order = ["--profile", "smoke", "--only", "toy_shapes", "--out", str(tmp_path)]
    assert command.main(order) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_the_command_writes_a_record_for_each_size(tmp_path, monkeypatch, study):
    monkeypatch.setattr(
        command, "of_toy_shapes", lambda size, rt: replace(study, size=16 * size // 64)
    )
    order = ["--profile", "smoke", "--only", "toy_shapes", "--out", str(tmp_path / "new")]
    assert command.main(order) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["small_toys-16px.json", "small_toys-32px.json"]
