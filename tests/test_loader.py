"""Both loaders: the same input at evaluation, fresh and repeatable augmentation in training, nothing lost."""

import inspect
import signal
import warnings
from collections import Counter

import albumentations as A
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from albumentations.pytorch import ToTensorV2

from course_lib.data import AlbumentationsLoader, Augment, BatchLoader, ImageStore, pipelines
from course_lib.data.augment import Lots, crop, draw_boxes, resize_boxes
from course_lib.files import CourseError

MEAN, STD = (0.48, 0.45, 0.40), (0.28, 0.27, 0.29)
SIZE, PAD = 12, 2


def noise(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make_store(images, labels=None):
    """Read-only, as a memory map is. Each label is the picture's own number unless told otherwise."""
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
    return len(first) == len(second) and all(
        torch.equal(x, other) and torch.equal(y, other_y)
        for (x, y), (other, other_y) in zip(first, second, strict=True)
    )


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
    unit = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255.0)
    unit = F.interpolate(
        unit, size=(7, 7), mode="bilinear", antialias=True
    )  # before normalising: it is linear
    expected = (unit - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(next(iter(loader))[0].double(), expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [None, SIZE, 8, 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_both_loaders_evaluate_the_same_bits(size, workers):
    store, results = make_store(noise(11)), []
    for loader in (
        batch_loader(store, 4, False),
        albumentations_loader(store, 4, False, workers=workers),
    ):
        loader.picture_size = size
        results.append(list(loader))
    assert same(*results)


def test_both_loaders_evaluate_the_same_bits_of_batches_that_are_normalised_in_parts():
    """In parts of another length each: what the cache holds, and what one thread does beside workers."""
    store, results = make_store(noise(60, size=64)), []
    for loader in (
        batch_loader(store, 50, False),
        albumentations_loader(store, 50, False, workers=2),
    ):
        assert loader._at_once < 50 * 64 * 64 * 3
        results.append(list(loader))
    assert same(*results)


@both_loaders
@pytest.mark.parametrize("train", [True, False])
def test_a_read_only_store_is_read_without_a_warning(make, train):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(labels_of(make(make_store(noise(8)), 4, train))) == 8


@pytest.mark.parametrize(
    "way", [way for way in MAKERS if way != "everything"]
)  # that changes the light
def test_pictures_keep_their_labels(way):
    images = np.repeat(np.arange(0, 200, 10, dtype=np.uint8), SIZE * SIZE * 3).reshape(
        20, SIZE, SIZE, 3
    )
    for x, labels in build(
        way, make_store(images)
    ):  # plain pictures: no shift or flip changes them
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


# --- repeatable, and never the same twice ---------------------------------------------------------


@every_way
def test_the_same_seed_and_epoch_give_the_same_pictures(way):
    store = make_store(noise(12))
    assert same(list(build(way, store, seed=3)), list(build(way, store, seed=3)))


def test_the_number_of_workers_changes_no_picture():
    store = make_store(noise(24))
    alone, two = (
        albumentations_loader(store, 4, True, workers=workers, seed=1) for workers in (0, 2)
    )
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
    """Else a training that is resumed inside an epoch would see other dropout than one that was not."""
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
    pipeline = A.Compose(
        [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), ToTensorV2()], strict=True
    )
    picture = noise(1)[0]
    kinds = {
        np.ascontiguousarray(v).tobytes(): i
        for i, v in enumerate([picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]])
    }
    loader = AlbumentationsLoader(one_picture(400), pipeline, 50, workers=workers)
    counts = Counter()
    for x, _ in loader:
        pixels = (x.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)) * 255
        counts.update(kinds[p.tobytes()] for p in pixels.round().to(torch.uint8).numpy())
    chi_square = sum((counts[kind] - 100) ** 2 / 100 for kind in range(4))
    assert chi_square < 16.3, counts  # three degrees of freedom: one in a thousand is above


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
    """The terminal sends it to the workers too; one that died of it would take the epoch with it."""
    pipeline = A.Compose([A.Lambda(image=press_ctrl_c), ToTensorV2()])
    assert len(labels_of(AlbumentationsLoader(make_store(noise(8)), pipeline, 4, workers=2))) == 8


# --- shift and flip -------------------------------------------------------------------------------


def placed(outputs, inputs, pad, mode="reflect"):
    """The (dy, dx, flipped) of each output, found by trying them all against numpy's padding."""
    found = []
    size = inputs.shape[1]
    for output, picture in zip(outputs, inputs, strict=True):
        padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
        places = {}
        for dy in range(2 * pad + 1):
            for dx in range(2 * pad + 1):
                crop = padded[dy : dy + size, dx : dx + size]
                places[crop.tobytes()] = (dy - pad, dx - pad, False)
                places[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = (dy - pad, dx - pad, True)
        assert len(places) == 2 * (2 * pad + 1) ** 2, (
            "a random picture looks like itself at one place only"
        )
        found.append(places[output.tobytes()])
    return np.array(found, dtype=int)


def check_places(places, pad):
    """Every shift occurs, about equally often; half are flipped; the three have nothing to do with each other."""
    count = len(places)
    for column, values in ((0, range(-pad, pad + 1)), (1, range(-pad, pad + 1)), (2, range(2))):
        share = 1 / len(values)
        for value in values:
            drawn = (places[:, column] == value).sum()
            assert abs(drawn - count * share) < 4.5 * np.sqrt(count * share * (1 - share)), (
                column,
                value,
                drawn,
            )
    correlation = np.corrcoef(places.T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(count)


def whole_batch(images, pad):
    generator = torch.Generator().manual_seed(1)
    flip = torch.rand(len(images), generator=generator) < 0.5
    lots = Lots(generator, len(images))
    picked = crop(torch.from_numpy(images).permute(0, 3, 1, 2), pad, images.shape[1], flip, lots)
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
    """As ``RandomCrop(32, padding=4)`` pads, which comes first; zero after normalising would be the mean colour."""
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


@pytest.mark.parametrize("size", [None, 8])
def test_a_smaller_area_is_one_side_for_a_batch_and_a_place_for_each_picture(size):
    images, sides = noise(12), set()
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    for epoch in range(4):
        x = drawn(Augment(pad=0, min_area=0.5), images, epoch=epoch, size=size)
        found = set()
        for side in range(8, SIZE + 1):  # 8.5 pixels are half the area
            for top in range(SIZE - side + 1):
                for left in range(SIZE - side + 1):
                    window = planes[:, :, top : top + side, left : left + side]
                    window = F.interpolate(
                        window, size=size or SIZE, mode="bilinear", antialias=True
                    )
                    for turned in (window, window.flip(3)):
                        equal = np.abs(turned.permute(0, 2, 3, 1).numpy() - x).max((1, 2, 3)) < 0.01
                        found |= {(i, side, top, left) for i in np.flatnonzero(equal)}
        assert sorted(i for i, *_ in found) == list(range(12)), (
            "each picture is one window of its own"
        )
        (side,) = {side for _, side, _, _ in found}
        assert side == SIZE or len({(top, left) for _, _, top, left in found}) > 2
        sides.add(side)
    assert len(sides) > 1


@pytest.mark.parametrize("size", [6, 9, 20])
def test_a_resized_crop_is_torchvisions_for_every_box(size):
    images = torch.from_numpy(noise(60)).permute(0, 3, 1, 2)
    generator = torch.Generator().manual_seed(0)
    lots = Lots(generator, 60)
    boxes, flip = draw_boxes(images.shape, (0.1, 1.0), lots), lots.uniform(0, 1) < 0.5
    found = resize_boxes(images, boxes, flip, size)
    for picture, box, turned, other in zip(images, boxes.T.tolist(), flip, found, strict=True):
        expected = tv.resized_crop(picture.float(), *box, [size, size], antialias=True)
        torch.testing.assert_close(
            other, expected.flip(2) if turned else expected, rtol=0, atol=1e-3
        )


def test_boxes_of_resized_crops_spread_over_area_shape_and_place():
    shape = torch.Size([4000, 3, 160, 160])
    top, left, height, width = draw_boxes(
        shape, (0.2, 0.6), Lots(torch.Generator().manual_seed(0), shape[0])
    ).double()
    assert (
        min(top.min(), left.min()) >= 0
        and (top + height).max() <= 160
        and (left + width).max() <= 160
    )
    aspect = (width / height).log() / np.log(4 / 3)
    for value, low, high in (
        (height * width / 160**2, 0.2, 0.6),
        (aspect, -1, 1),
        (top / (160 - height), 0, 1),
        (left / (160 - width), 0, 1),
    ):
        share = (value - low) / (high - low)
        quantiles = torch.quantile(share, torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.double))
        torch.testing.assert_close(
            quantiles, torch.tensor([0, 0.25, 0.5, 0.75, 1]).double(), rtol=0, atol=0.04
        )


def test_a_resized_crop_has_the_training_size_at_once():
    assert drawn(Augment(resized_crop=(0.4, 1)), noise(4), size=7).shape == (4, 7, 7, 3)
    plain = drawn(Augment(resized_crop=(1, 1)), np.full((4, SIZE, SIZE, 3), 77, np.uint8))
    np.testing.assert_allclose(plain, 77, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [None, 8])
def test_cutout_covers_one_square_of_each_picture_with_the_mean_colour(size):
    images, mean, corners = np.full((40, SIZE, SIZE, 3), 255, np.uint8), np.array(MEAN) * 255, set()
    for picture in drawn(Augment(cutout=0.5), images, size=size):
        covered = np.abs(picture - mean).max(2) < 1e-3
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        half = (size or SIZE) // 2
        assert len(rows) == len(columns) == half and covered.sum() == half**2, (
            "one square, wholly inside"
        )
        assert np.abs(picture[~covered] - 255).max() < 1e-3
        corners.add((rows[0], columns[0]))
    assert len(corners) > 12


def test_brightness_adds_and_contrast_stretches_about_the_mean_picture_by_picture():
    images, factors, shifts = noise(300), [], []
    plain = drawn(Augment(), images)
    for before, after in zip(
        plain, drawn(Augment(brightness=0.2, contrast=0.4), images), strict=True
    ):
        apart, moved = before - before.mean((0, 1)), after.mean((0, 1)) - before.mean((0, 1))
        factors.append((apart * after).sum() / (apart**2).sum())
        shifts.append(moved.mean() / 255)
        np.testing.assert_allclose(
            after, before.mean((0, 1)) + factors[-1] * apart + moved.mean(), rtol=0, atol=0.01
        )
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
        ({"contrast": -0.1}, "brightness and contrast"),
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
    made = [
        name
        for name, function in inspect.getmembers(pipelines, inspect.isfunction)
        if inspect.signature(function).return_annotation is A.Compose
    ]
    assert sorted(made) == sorted(PIPELINES)


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
