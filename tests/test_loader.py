"""Both loaders: the same input at evaluation, fresh and repeatable pictures in training."""

import inspect
import signal
import time
import warnings
from collections import Counter

import albumentations as A
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader, TensorDataset

from course_lib.data import (
    AlbumentationsLoader,
    Augment,
    BatchLoader,
    ImageStore,
    pictures_per_second,
    pipelines,
)
from course_lib.data.augment import (
    BatchRandom,
    crop,
    draw_boxes,
    draw_places,
    normalise,
    pad_crop_normalise,
    resize_boxes,
)
from course_lib.files import CourseError
from course_lib.training import Resumable

MEAN, STD = (0.48, 0.45, 0.40), (0.28, 0.27, 0.29)
SCALE = 1 / (255 * torch.tensor(STD))
SHIFT = torch.tensor(MEAN) / torch.tensor(STD)
SIZE, PAD = 12, 2


def noise(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make_store(images, labels=None):
    """Read-only, as a memory map is. By default each label is the picture's own number."""
    labels = np.arange(len(images), dtype=np.int64) if labels is None else labels
    images.setflags(write=False)
    return ImageStore("noise", "train", images, labels, ["only"], MEAN, STD, is_real=False)


def one_picture(count):
    """The same picture many times: what differs between two of them is the augmentation."""
    return make_store(np.repeat(noise(1), count, 0))


def batch_loader(store, batch_size, train, **options):
    return BatchLoader(store, batch_size, augment=train and Augment(pad=PAD), **options)


def loader_of_everything(store, batch_size, train, **options):
    """All that can be drawn, at once."""
    augment = Augment(
        pad=PAD, flip="alternating", min_area=0.4, cutout=0.3, brightness=0.2, contrast=0.3
    )
    return BatchLoader(store, batch_size, augment=train and augment, **options)


def resized_crop_loader(store, batch_size, train, **options):
    return BatchLoader(
        store, batch_size, augment=train and Augment(resized_crop=(0.3, 1.0)), **options
    )


def albumentations_loader(store, batch_size, train, *, workers=0, **options):
    size = store.images.shape[1]
    pipeline = pipelines.pad_crop_flip(size, PAD) if train else pipelines.evaluation()
    return AlbumentationsLoader(
        store, pipeline, batch_size, shuffle=train, workers=workers, **options
    )


both_loaders = pytest.mark.parametrize("make", [batch_loader, albumentations_loader])
MAKERS = {
    "batch": (batch_loader, {}),
    "everything": (loader_of_everything, {}),
    "resized crops": (resized_crop_loader, {}),
    "in process": (albumentations_loader, {"workers": 0}),
    "two workers": (albumentations_loader, {"workers": 2}),
}
every_way = pytest.mark.parametrize("way", MAKERS)


def build(way, store, batch_size=4, train=True, **options):
    make, more = MAKERS[way]
    return make(store, batch_size, train, **more, **options)


def labels_of(loader):
    return [label for _, labels in loader for label in labels.tolist()]


def same(first, second):
    """Whether two lists of batches hold the same bits."""
    if len(first) != len(second):
        return False

    pairs = zip(first, second, strict=True)
    return all(torch.equal(x, x2) and torch.equal(y, y2) for (x, y), (x2, y2) in pairs)


# --- what a batch is ------------------------------------------------------------------------------


@both_loaders
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [None, 8])
def test_a_batch_is_float32_channels_last_and_as_large_as_asked(make, train, size):
    loader = make(make_store(noise(8)), 4, train)
    loader.picture_size = size
    for x, labels in loader:
        assert x.shape == (4, 3, size or SIZE, size or SIZE) and x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert labels.shape == (4,) and labels.dtype == torch.int64


@both_loaders
def test_pictures_are_normalised_channel_by_channel(make):
    images = noise(6)
    expected = (images / 255.0 - np.array(MEAN)) / np.array(STD)  # (N, H, W, 3), float64
    x = torch.cat([x for x, _ in make(make_store(images), 4, False)])
    np.testing.assert_allclose(x.numpy().transpose(0, 2, 3, 1), expected, rtol=0, atol=2e-6)


@both_loaders
def test_a_smaller_picture_size_is_the_antialiased_picture(make):
    images = noise(4)
    loader = make(make_store(images), 4, False)
    loader.picture_size = 7

    # Before normalising, for it is linear.
    unit = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255.0)
    unit = F.interpolate(unit, size=(7, 7), mode="bilinear", antialias=True)
    expected = (unit - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(next(iter(loader))[0].double(), expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [None, SIZE, 8, 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_both_loaders_evaluate_the_same_bits(size, workers):
    store = make_store(noise(11))
    one = batch_loader(store, 4, False)
    other = albumentations_loader(store, 4, False, workers=workers)

    one.picture_size = other.picture_size = size
    assert same(list(one), list(other))


def test_both_loaders_evaluate_the_same_bits_of_batches_that_are_normalised_in_parts():
    """In parts of another length each: what the cache holds, and what one thread does."""
    store = make_store(noise(60, size=64))
    one = batch_loader(store, 50, False)
    other = albumentations_loader(store, 50, False, workers=2)

    assert other._at_once < one._at_once < 50 * 64 * 64 * 3
    assert same(list(one), list(other))


@both_loaders
@pytest.mark.parametrize("train", [True, False])
def test_a_read_only_store_is_read_without_a_warning(make, train):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(labels_of(make(make_store(noise(8)), 4, train))) == 8


@pytest.mark.parametrize("way", [way for way in MAKERS if way != "everything"])
def test_pictures_keep_their_labels(way):
    """Told by plain pictures, which no shift or flip changes; light does."""
    levels = np.arange(0, 200, 10, dtype=np.uint8)
    images = np.repeat(levels, SIZE * SIZE * 3).reshape(20, SIZE, SIZE, 3)

    for x, labels in build(way, make_store(images)):
        level = (x[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255
        assert (level / 10).round().tolist() == labels.tolist()


# --- every picture, once --------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("train", [True, False])
def test_every_picture_comes_exactly_once_in_an_epoch(way, train):
    loader = build(way, make_store(noise(20)), train=train)
    assert sorted(labels_of(loader)) == list(range(20)) and len(loader) == 5 and loader.images == 20


@both_loaders
def test_an_incomplete_last_batch_is_kept_in_evaluation_and_dropped_in_training(make):
    store = make_store(noise(11))
    for train, sizes in ((False, [4, 4, 3]), (True, [4, 4])):
        loader = make(store, 4, train)
        assert [len(labels) for _, labels in loader] == sizes
        assert len(loader) == len(sizes) and loader.images == sum(sizes)
    assert labels_of(make(store, 4, False)) == list(range(11)), "in order"


@both_loaders
def test_what_is_dropped_changes_from_epoch_to_epoch(make):
    loader, dropped = make(make_store(noise(11)), 4, True), set()
    for loader.epoch in range(6):
        dropped |= set(range(11)) - set(labels_of(loader))
    assert len(dropped) > 6


@both_loaders
def test_a_batch_larger_than_the_store_is_an_error_in_training_only(make):
    store = make_store(noise(5))
    with pytest.raises(CourseError, match="batch size 6 .*5 pictures of noise train.*smaller"):
        make(store, 6, True)
    assert [len(labels) for _, labels in make(store, 6, False)] == [5]


@both_loaders
@pytest.mark.parametrize("batch_size", [0, -1, 2.5, float("nan")])
def test_a_batch_size_that_is_none_is_refused_when_the_loader_is_made(make, batch_size):
    """Left alone: a division by zero, or an epoch of no batch."""
    with pytest.raises(CourseError, match=f"batch_size is {batch_size}: expected a whole number"):
        make(make_store(noise(5)), batch_size, False)


@both_loaders
@pytest.mark.parametrize("number", [2.0, np.int64(2)])
def test_a_batch_size_may_be_a_whole_number_of_any_kind(make, number):
    sizes = [len(labels) for _, labels in make(make_store(noise(5)), number, False)]
    assert sizes == [2, 2, 1]


# --- repeatable, and never the same twice ---------------------------------------------------------


@every_way
def test_the_same_seed_and_epoch_give_the_same_pictures(way):
    store = make_store(noise(12))
    assert same(list(build(way, store, seed=3)), list(build(way, store, seed=3)))


def test_the_number_of_workers_changes_no_picture():
    store = make_store(noise(24))
    alone = albumentations_loader(store, 4, True, workers=0, seed=1)
    two = albumentations_loader(store, 4, True, workers=2, seed=1)

    for alone.epoch in (0, 5):
        two.epoch = alone.epoch
        assert same(list(alone), list(two))


@both_loaders
def test_whatever_is_drawn_elsewhere_changes_no_picture(make):
    loader = make(make_store(noise(12)), 4, True)
    first = list(loader)
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(list(loader), first)


@both_loaders
def test_reading_leaves_torchs_random_state_alone(make):
    """Else a training that is resumed inside an epoch would see other dropout."""
    before = torch.get_rng_state()
    list(make(make_store(noise(8)), 4, True))
    assert torch.equal(torch.get_rng_state(), before)


@every_way
def test_every_batch_epoch_and_seed_has_augmentations_of_its_own(way):
    """Albumentations by itself repeats them in every worker and every epoch."""
    store, batches = one_picture(16), []
    for seed in (0, 1):
        loader = build(way, store, seed=seed)
        for loader.epoch in (0, 1):
            batches += [x.numpy().tobytes() for x, _ in loader]
    assert len(batches) == 16 and len(set(batches)) == 16


@every_way
def test_pictures_of_one_batch_are_augmented_one_by_one(way):
    (x, _), *_ = build(way, one_picture(64), batch_size=64)
    assert len({picture.numpy().tobytes() for picture in x}) > 25  # of 50 that can be


@both_loaders
def test_shuffling_follows_the_seed_and_the_epoch(make):
    store, orders = make_store(noise(24)), set()
    for seed in (0, 1):
        loader = make(store, 4, True, seed=seed)
        for loader.epoch in (0, 1):
            orders.add(tuple(labels_of(loader)))
    assert len(orders) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_two_flips_in_one_pipeline_are_independent(workers):
    """``Compose(seed=…)`` gives each the same numbers: neither or both in 400 draws, never one."""
    flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    pipeline = A.Compose([*flips, ToTensorV2()], strict=True)

    picture = noise(1)[0]
    four = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
    kinds = {turned.tobytes(): kind for kind, turned in enumerate(four)}

    counts = Counter()
    for x, _ in AlbumentationsLoader(one_picture(400), pipeline, 50, workers=workers):
        pixels = (x.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)) * 255
        counts.update(kinds[p.tobytes()] for p in pixels.round().to(torch.uint8).numpy())

    chi_square = sum((counts[kind] - 100) ** 2 / 100 for kind in range(4))
    assert chi_square < 16.3, counts  # three degrees of freedom: one in a thousand is above


# --- pipelines of other people --------------------------------------------------------------------


def test_an_own_pipeline_that_gives_bytes_is_read():
    pipeline = A.Compose([A.HorizontalFlip(p=0.5), A.RandomCrop(8, 8), ToTensorV2()])
    ((x, _),) = AlbumentationsLoader(make_store(noise(4)), pipeline, 4, workers=0)
    assert x.shape == (4, 3, 8, 8)


OWN_PIPELINES = {
    "normalises": ([A.Normalize(), ToTensorV2()], r"float32 \(3, 12, 12\).*leave out Normalize"),
    "to floats": ([A.ToFloat(max_value=255), ToTensorV2()], "float32.*loader normalises"),
    "no tensor": ([A.HorizontalFlip()], r"ndarray.*ToTensorV2\(\)"),
    "grey": ([A.ToGray(num_output_channels=1, p=1), ToTensorV2()], r"uint8 \(1, 12, 12\)"),
}


@pytest.mark.parametrize("kind", OWN_PIPELINES)
def test_a_pipeline_that_gives_no_bytes_is_refused_before_an_epoch_begins(kind):
    """Else it would be normalised twice: a mean of -1.6 and a deviation of 0.14."""
    transforms, words = OWN_PIPELINES[kind]
    with pytest.raises(CourseError, match=f"the pipeline gives .*{words}") as caught:
        AlbumentationsLoader(make_store(noise(8)), A.Compose(transforms), 4, workers=2)
    assert "\n" not in str(caught.value), "one sentence, not a traceback of a worker"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pipeline_that_normalises_now_and_then_is_refused_too(workers):
    """A float32 picture among bytes is turned into bytes of 0 and 1, or stops the batch."""
    images = iter([np.zeros((12, 12, 3), np.uint8)])  # the one that is tried first

    def late(image, **_):
        return next(images, image.astype(np.float32))

    pipeline = A.Compose([A.Lambda(image=late), ToTensorV2()])
    loader = AlbumentationsLoader(make_store(noise(8)), pipeline, 4, workers=workers)
    with pytest.raises(CourseError, match="the pipeline gives float32"):
        list(loader)


@both_loaders
def test_a_store_of_floats_is_refused(make):
    """Of 0 to 1, as many arrays are: it would be normalised as if it were of 0 to 255."""
    with pytest.raises(CourseError, match="pictures of noise are float32, expected uint8"):
        make(make_store(noise(8).astype(np.float32)), 4, True)


# --- resuming -------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("first_batch", [0, 1, 3, 5])
def test_resuming_inside_an_epoch_gives_exactly_the_batches_that_were_left(way, first_batch):
    store = make_store(noise(20))
    whole, rest = build(way, store, seed=2), build(way, store, seed=2)
    whole.epoch = rest.epoch = 1
    rest.first_batch = first_batch

    assert same(list(rest), list(whole)[first_batch:])
    assert len(rest) == 5, "the length of an epoch stays what it is"


def press_ctrl_c(image, **_):
    if torch.utils.data.get_worker_info():
        signal.raise_signal(signal.SIGINT)
    return image


def test_ctrl_c_is_the_parents_business():
    """A terminal sends it to the workers too; one that died of it would take the epoch along."""
    pipeline = A.Compose([A.Lambda(image=press_ctrl_c), ToTensorV2()])
    assert len(labels_of(AlbumentationsLoader(make_store(noise(8)), pipeline, 4, workers=2))) == 8


# --- what a training may ask for besides ----------------------------------------------------------


@every_way
def test_our_loaders_can_be_resumed_and_their_pictures_grow(way):
    loader = build(way, make_store(noise(8)))
    assert isinstance(loader, Resumable) and loader.picture_size is None


def test_a_plain_loader_is_told_from_them():
    plain = DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4)))
    assert not isinstance(plain, Resumable)


class Timed:
    """Two batches of four pictures, 10 ms each; but the very first one takes 5 s, as workers do."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.costs = [5.0]
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __iter__(self):
        for _ in range(2):
            self.now += self.costs.pop() if self.costs else 0.01
            yield torch.zeros(4, 3, 2, 2), torch.zeros(4)


@pytest.mark.parametrize("seconds", [0.1, 2.0])
def test_pictures_per_second_leaves_the_start_out_and_goes_on_past_the_end(monkeypatch, seconds):
    loader = Timed(monkeypatch)
    assert pictures_per_second(loader, seconds) == pytest.approx(400)
    assert loader.now == pytest.approx(5 + seconds, abs=0.011)


def test_nothing_to_time_is_an_error_and_no_endless_loop():
    with pytest.raises(CourseError, match="yields no batch"):
        pictures_per_second([])


# --- shift and flip -------------------------------------------------------------------------------


def as_tensor(images):
    """uint8 (N, H, W, 3) → (N, 3, H, W), channels_last."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def random_of(count, seed=0):
    return BatchRandom(torch.Generator().manual_seed(seed), count)


@pytest.mark.parametrize("border", ["mirror", "zeros"])
@pytest.mark.parametrize("pad, side", [(0, SIZE), (PAD, SIZE), (4, SIZE), (0, 9), (4, 7), (11, 5)])
def test_the_four_lines_and_the_fast_form_agree_bit_for_bit(border, pad, side):
    images = as_tensor(noise(40))
    rng = random_of(40)
    top, left = draw_places(images.shape, pad, side, rng)
    flip = rng.uniform(0, 1) < 0.5

    taught = pad_crop_normalise(images, top, left, flip, SCALE, SHIFT, pad, side, border)
    cut = crop(images, top, left, flip, pad, side, border)

    for at_once in (100, 400_000):
        assert torch.equal(normalise(cut, SCALE, SHIFT, at_once), taught)


def test_the_four_lines_are_what_a_loader_does():
    """With places and flips drawn in the order in which the loader draws them."""
    store = make_store(noise(16))
    loader = batch_loader(store, 16, True, shuffle=False, seed=3)
    ((x, _),) = loader

    state = np.random.SeedSequence((3, 0, 0)).generate_state(1, np.uint32)[0]
    rng = random_of(16, int(state))
    flip = rng.uniform(0, 1) < 0.5
    rng.scalar(1, 1)  # the side, which is the whole one
    images = as_tensor(store.images)
    top, left = draw_places(images.shape, PAD, SIZE, rng)

    taught = pad_crop_normalise(images, top, left, flip, SCALE, SHIFT, PAD, SIZE)
    assert torch.equal(x, taught)


def placed(outputs, inputs, pad, mode="reflect"):
    """The (dy, dx, flipped) of each output, found by trying them all against numpy's padding."""
    size, found = inputs.shape[1], []

    for output, picture in zip(outputs, inputs, strict=True):
        padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
        places = {}
        for dy in range(2 * pad + 1):
            for dx in range(2 * pad + 1):
                window = padded[dy : dy + size, dx : dx + size]
                places[window.tobytes()] = (dy - pad, dx - pad, False)
                places[window[:, ::-1].tobytes()] = (dy - pad, dx - pad, True)

        assert len(places) == 2 * (2 * pad + 1) ** 2, "a random picture is like itself at one place"
        found.append(places[output.tobytes()])
    return np.array(found, dtype=int)


def check_places(places, pad):
    """Every shift occurs, about equally often; half are flipped; the three are independent."""
    count = len(places)
    shifts = range(-pad, pad + 1)

    for column, values in ((0, shifts), (1, shifts), (2, range(2))):
        share = 1 / len(values)
        for value in values:
            drawn = (places[:, column] == value).sum()
            error = np.sqrt(count * share * (1 - share))
            assert abs(drawn - count * share) < 4.5 * error, (column, value, drawn)

    correlation = np.corrcoef(places.T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(count)


def whole_batch(images, pad):
    side, rng = images.shape[1], random_of(len(images), seed=1)
    flip = rng.uniform(0, 1) < 0.5
    top, left = draw_places(as_tensor(images).shape, pad, side, rng)

    picked = crop(as_tensor(images), top, left, flip, pad, side)
    return picked.permute(0, 2, 3, 1).contiguous().numpy()


def one_by_one(images, pad):
    pipeline = pipelines.pad_crop_flip(images.shape[1], pad)
    pipelines.seed_pipeline(pipeline, 1, 2, 3)
    return np.stack([pipeline(image=image)["image"].permute(1, 2, 0).numpy() for image in images])


@pytest.mark.parametrize("augment", [whole_batch, one_by_one])
@pytest.mark.parametrize("pad", [2, 4])
def test_pictures_are_crops_of_the_mirrored_padding_at_places_drawn_evenly(augment, pad):
    images = noise(500)
    check_places(placed(augment(images, pad), images, pad), pad)


@pytest.mark.parametrize("pad", [2, 4])
def test_a_border_of_zeros_is_black_before_normalising(pad):
    """As ``RandomCrop(32, padding=4)`` pads: zero after normalising would be the mean colour."""
    images = noise(500)
    x = drawn(Augment(pad=pad, border="zeros"), images).round().astype(np.uint8)
    check_places(placed(x, images, pad, mode="constant"), pad)


def test_without_padding_pictures_are_only_flipped():
    images = noise(100)
    places = placed(whole_batch(images, 0), images, 0)
    assert (places[:, :2] == 0).all() and 30 < places[:, 2].sum() < 70


# --- whole batches --------------------------------------------------------------------------------


def test_a_store_that_lies_on_the_device_gives_the_same_batches():
    store = make_store(noise(20))
    loaders = [loader_of_everything(store, 8, True) for _ in range(2)]
    loaders[0]._resident = torch.from_numpy(store.images.copy())  # as on a GPU with room for it
    assert same(*map(list, loaders)) and loaders[1]._resident is None


def drawn(augment, images, *, epoch=0, seed=0, size=None):
    """One batch of all pictures, in the order of the store, as float (N, H, W, 3) in 0..255."""
    loader = BatchLoader(make_store(images), len(images), augment=augment, shuffle=False, seed=seed)
    loader.epoch, loader.picture_size = epoch, size
    ((x, _),) = loader
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    return (x.permute(0, 2, 3, 1).double() * torch.tensor(STD) + torch.tensor(MEAN)).numpy() * 255


def test_alternating_flips_turn_every_picture_from_epoch_to_epoch():
    images, augment = noise(200), Augment(pad=0, flip="alternating")

    def flipped(epoch, seed):
        x = drawn(augment, images, epoch=epoch, seed=seed).round()
        plain = (x == images).all((1, 2, 3))
        assert np.array_equal(x[~plain], images[~plain][:, :, ::-1])
        return ~plain

    first = flipped(0, seed=0)
    assert 65 < first.sum() < 135  # five standard deviations
    for epoch in range(1, 4):
        assert np.array_equal(flipped(epoch, seed=0), first ^ bool(epoch % 2))
    assert 60 < (flipped(0, seed=1) ^ first).sum() < 140, "another seed, another lot"


def windows_that_equal(pictures, images, size):
    """(picture, side, top, left) of each window, flipped or not, that is one of ``pictures``."""
    planes, found = as_tensor(images).double(), set()

    for side in range(8, SIZE + 1):  # 8.5 pixels are half the area
        for top in range(SIZE - side + 1):
            for left in range(SIZE - side + 1):
                window = planes[:, :, top : top + side, left : left + side]
                window = F.interpolate(window, size=size, mode="bilinear", antialias=True)
                for turned in (window, window.flip(3)):
                    apart = np.abs(turned.permute(0, 2, 3, 1).numpy() - pictures).max((1, 2, 3))
                    found |= {(i, side, top, left) for i in np.flatnonzero(apart < 0.01)}
    return found


@pytest.mark.parametrize("size", [None, 8])
def test_a_smaller_area_is_one_side_for_a_batch_and_a_place_for_each_picture(size):
    images, sides = noise(12), set()

    for epoch in range(4):
        x = drawn(Augment(pad=0, min_area=0.5), images, epoch=epoch, size=size)
        found = windows_that_equal(x, images, size or SIZE)
        assert sorted(i for i, *_ in found) == list(range(12)), "each is one window of its own"

        (side,) = {side for _, side, _, _ in found}
        assert side == SIZE or len({(top, left) for _, _, top, left in found}) > 2
        sides.add(side)
    assert len(sides) > 1


@pytest.mark.parametrize("size", [6, 9, 20])
def test_a_resized_crop_is_torchvisions_for_every_box(size):
    images, rng = as_tensor(noise(60)), random_of(60)
    boxes = draw_boxes(images.shape, (0.1, 1.0), rng)
    flip = rng.uniform(0, 1) < 0.5

    found = resize_boxes(images, boxes, flip, size)
    for picture, box, turned, other in zip(images, boxes.T.tolist(), flip, found, strict=True):
        expected = tv.resized_crop(picture.float(), *box, [size, size], antialias=True)
        expected = expected.flip(2) if turned else expected
        torch.testing.assert_close(other, expected, rtol=0, atol=1e-3)


def test_boxes_of_resized_crops_spread_over_area_shape_and_place():
    shape = torch.Size([4000, 3, 160, 160])
    top, left, height, width = draw_boxes(shape, (0.2, 0.6), random_of(4000)).double()
    assert min(top.min(), left.min()) >= 0
    assert max((top + height).max(), (left + width).max()) <= 160

    quarters = torch.tensor([0, 0.25, 0.5, 0.75, 1]).double()
    for value, low, high in (
        (height * width / 160**2, 0.2, 0.6),
        ((width / height).log() / np.log(4 / 3), -1, 1),
        (top / (160 - height), 0, 1),
        (left / (160 - width), 0, 1),
    ):
        share = (value - low) / (high - low)
        torch.testing.assert_close(torch.quantile(share, quarters), quarters, rtol=0, atol=0.04)


def test_a_resized_crop_has_the_training_size_at_once():
    assert drawn(Augment(resized_crop=(0.4, 1)), noise(4), size=7).shape == (4, 7, 7, 3)
    plain = drawn(Augment(resized_crop=(1, 1)), np.full((4, SIZE, SIZE, 3), 77, np.uint8))
    np.testing.assert_allclose(plain, 77, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [None, 8])
def test_cutout_covers_one_square_of_each_picture_with_the_mean_colour(size):
    images, mean = np.full((40, SIZE, SIZE, 3), 255, np.uint8), np.array(MEAN) * 255
    half, corners = (size or SIZE) // 2, set()

    for picture in drawn(Augment(cutout=0.5), images, size=size):
        covered = np.abs(picture - mean).max(2) < 1e-3
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))

        assert len(rows) == len(columns) == half, "one square"
        assert covered.sum() == half**2, "wholly inside"
        assert np.abs(picture[~covered] - 255).max() < 1e-3
        corners.add((rows[0], columns[0]))
    assert len(corners) > 12


def test_brightness_adds_and_contrast_stretches_about_the_mean_picture_by_picture():
    images, factors, shifts = noise(300), [], []
    plain = drawn(Augment(), images)
    changed = drawn(Augment(brightness=0.2, contrast=0.4), images)

    for before, after in zip(plain, changed, strict=True):
        mean = before.mean((0, 1))
        apart, shift = before - mean, (after.mean((0, 1)) - mean).mean()
        factor = (apart * after).sum() / (apart**2).sum()
        np.testing.assert_allclose(after, mean + factor * apart + shift, rtol=0, atol=0.01)
        factors.append(factor)
        shifts.append(shift / 255)

    for values, reach in ((np.array(factors) - 1, 0.4), (np.array(shifts), 0.2)):
        quantiles = np.quantile(values / reach, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quantiles, [-1, -0.5, 0, 0.5, 1], rtol=0, atol=0.2)
        assert np.abs(values).max() <= reach + 1e-6
    assert abs(np.corrcoef(factors, shifts)[0, 1]) < 0.25


@pytest.mark.parametrize(
    "options, words",
    [
        ({"flip": "always"}, "flip is 'always'.*random, alternating"),
        ({"pad": -1}, "pad is -1.*0 or more"),
        ({"border": "black"}, "border is 'black'.*mirror, zeros"),
        ({"min_area": 0}, "min_area is 0.*above 0"),
        ({"resized_crop": (0.8, 0.3)}, "resized_crop is .*least"),
        ({"cutout": 1.0}, "cutout is 1.0.*below 1"),
        ({"brightness": -0.1}, "brightness is -0.1: expected a share"),
        ({"contrast": -0.1}, "contrast is -0.1: expected a share"),
    ],
)
def test_an_augmentation_out_of_range_is_named(options, words):
    with pytest.raises(CourseError, match=words):
        Augment(**options)


def test_padding_as_wide_as_the_picture_is_an_error():
    with pytest.raises(CourseError, match=f"pad is {SIZE}.*{SIZE} pixels"):
        BatchLoader(make_store(noise(4)), 4, augment=Augment(pad=SIZE))


# --- pipelines ------------------------------------------------------------------------------------

PIPELINES = {
    "evaluation": lambda: pipelines.evaluation(),
    "pad_crop_flip": lambda: pipelines.pad_crop_flip(64),
    "pad_crop_flip_dropout": lambda: pipelines.pad_crop_flip_dropout(64),
    "strong": lambda: pipelines.strong(64),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_gives_uint8_pictures_of_the_size_asked_for(name):
    pipeline = PIPELINES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in noise(8, 64):
            out = pipeline(image=image)["image"]
            assert out.shape == (3, 64, 64) and out.dtype == torch.uint8


def test_every_pipeline_of_the_module_is_tested_here():
    functions = dict(inspect.getmembers(pipelines, inspect.isfunction))
    made = {
        name
        for name, function in functions.items()
        if inspect.signature(function).return_annotation is A.Compose
    }
    assert made == set(PIPELINES)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("A.HorizontalFlip(p=0.5)", "A.HorizontalFlip(prob=0.5)"),
        ("fill=128", "fill_value=128"),
        ("scale=(0.35, 1.0)", "scales=(0.35, 1.0)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Argument")
def test_a_misspelt_keyword_in_a_pipeline_is_an_error(right, wrong):
    source = inspect.getsource(pipelines)
    assert right in source
    module = {"__name__": "misspelt"}
    exec(source.replace(right, wrong), module)  # the module as a reader might have changed it
    with pytest.raises(ValueError, match="not valid|[Mm]isspelt|prob|fill_value|scales"):
        module["pad_crop_flip_dropout"](64)
        module["strong"](64)


def test_dropout_covers_a_square_of_a_quarter_to_half_the_side_in_half_of_the_pictures():
    pipeline, image = pipelines.pad_crop_flip_dropout(64), np.zeros((64, 64, 3), np.uint8)
    pipelines.seed_pipeline(pipeline, 0)
    covered = [(pipeline(image=image)["image"][0] == 128).sum().item() for _ in range(200)]
    squares = [pixels for pixels in covered if pixels]
    assert 70 < len(squares) < 130
    assert all(15**2 <= pixels <= 33**2 for pixels in squares)
