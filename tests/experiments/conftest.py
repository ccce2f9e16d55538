"""A world for runs: drawn pictures, a small network, a folder for everything that is written."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from small import SMOKE, SmallNet

from course_lib import runtime
from course_lib.data import toy_shapes
from course_lib.experiments import DATASETS, price, recipe
from course_lib.experiments import record as records

COUNTS = {"train": 128, "tune": 40, "val": 50}


@pytest.fixture(scope="session")
def drawn():
    return {split: toy_shapes(split, count=count, size=32) for split, count in COUNTS.items()}


@pytest.fixture
def stores(monkeypatch):
    """Puts these stores in the place of TinyImageNet."""

    def put(stores):
        monkeypatch.setitem(
            DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: stores[split]
        )

    return put


@pytest.fixture
def world(tmp_path, monkeypatch, drawn, stores):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runtime, "usable_gpu", lambda: (False, "no CUDA GPU found"))
    stores(drawn)
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """A network of one convolution, whatever a recipe asks for."""
    monkeypatch.setattr(
        recipe, "create_model", lambda name, classes, **options: SmallNet(classes, **options)
    )
    monkeypatch.setattr(
        recipe, "model_options", lambda name: dict(SmallNet.__init__.__kwdefaults__)
    )


@pytest.fixture
def real(world, small, drawn, stores, monkeypatch):
    """The profile cpu, with pictures that pass for real, and a rate of 50 pictures a second."""
    passed = {split: replace(store, is_real=True) for split, store in drawn.items()}
    stores(passed)
    timed = Mock(return_value=50.0)
    monkeypatch.setattr(price, "reference_rate", timed)

    return SimpleNamespace(
        rt=replace(SMOKE, profile="cpu"), timed=timed, folder=world / "runs", stores=passed
    )
