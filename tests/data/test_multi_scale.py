"""Batches of several shapes: the same at any number of workers, and from any batch on."""

from types import SimpleNamespace

import numpy as np
import pytest

from ssd.config.augment import input_shapes, read_augment
from ssd.config.parts import loader_config
from ssd.data.loaders.build import make_train_loader
from ssd.data.loaders.fast import FastLoader
from ssd.data.recordio.cache import ensure_records
from ssd.utils.errors import UserError

BASE = (64, 96)
FACTORS = [0.5, 1.0, 1.5]
SHAPES = {(32, 64), (64, 96), (96, 160)}  # multiples of 32; halves are rounded up


@pytest.fixture
def records(voc, tmp_path, jpeg):
    names = [f"x{number:02}" for number in range(12)]
    for number, name in enumerate(names):
        voc.add(name, [("cat", 5, 5, 14, 25)], jpeg(60, 40, seed=number))
    voc.sets(train=names)
    return ensure_records(voc.dataset().split("train"), tmp_path / "records", "train", seed=0)


@pytest.fixture
def make(records, make_cfg):
    def loader(
        workers: int = 0, every: int = 1, mix_until: float = 1.0, kind: str = "fast", base=BASE, **values
    ) -> FastLoader:
        cfg = make_cfg("ssd", loader=SimpleNamespace(name=kind, workers=workers, prefetch=2), epochs=4,
                       data_shape=SimpleNamespace(height=base[0], width=base[1]), **values)  # fmt: skip
        cfg.augment.multi_scale = {"factors": FACTORS, "every": every}
        cfg.augment.mix_until = mix_until
        return make_train_loader(records, loader_config(cfg), records.label_width)

    return loader


def batches(loader: FastLoader, epochs: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    with loader:
        for epoch in range(epochs):
            loader.start(epoch, 0)
            found += [(batch.data[0].asnumpy(), batch.label[0].asnumpy()) for batch in loader]
    return found


def shapes(loader: FastLoader) -> list[tuple[int, ...]]:
    return [data.shape[2:] for data, _ in batches(loader)]


def test_every_shape_comes(make) -> None:
    found = shapes(make())
    assert len(found) == 24
    assert set(found) == SHAPES


def test_the_loader_says_the_shape_of_each_batch(make) -> None:
    with make() as loader:
        assert loader.provide_data[0].shape == (2, 3, *BASE)
        for batch in loader:
            assert batch.provide_data[0].shape == batch.data[0].shape
            assert batch.provide_label[0].shape == batch.label[0].shape == loader.provide_label[0].shape


def test_a_shape_stays_for_some_batches(make) -> None:
    found = shapes(make(every=4))
    assert all(len(set(found[first : first + 4])) == 1 for first in range(0, 24, 4))
    assert len(set(found)) > 1


def test_the_last_part_of_the_run_has_the_inputs_shape(make) -> None:
    found = shapes(make(mix_until=0.5))
    assert set(found[:12]) == SHAPES
    assert set(found[12:]) == {BASE}


def test_the_same_with_worker_processes_and_from_the_middle(make) -> None:
    expected = batches(make())
    for (data, label), (data2, label2) in zip(expected, batches(make(workers=2)), strict=True):
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(label, label2)
    with make() as loader:
        loader.start(2, 3)
        rest = [batch.data[0].asnumpy() for batch in loader]
    assert len(rest) == 3
    for data, (wanted, _) in zip(rest, expected[15:18], strict=True):
        np.testing.assert_array_equal(data, wanted)


def test_the_seed_decides(make) -> None:
    assert shapes(make(seed=1)) == shapes(make(seed=1)) != shapes(make(seed=2))


def test_mxnets_iterator_has_one_shape(make) -> None:
    with pytest.raises(UserError, match=r"augment.multi_scale.factors=.*use loader=fast"):
        make(workers=1, kind="record")


@pytest.mark.parametrize(
    ("change", "part"), [({"factors": [5.0]}, "each from 0.25 to 4"), ({"every": 0}, "at least 1")]
)
def test_wrong_values(make_cfg, change: dict, part: str) -> None:
    cfg = make_cfg("none").augment
    cfg.multi_scale.update(change)
    with pytest.raises(UserError, match=part):
        read_augment(cfg)


def test_shapes_are_named_once(make_cfg) -> None:
    cfg = make_cfg("none").augment
    cfg.multi_scale.factors = [1.0, 1.05, 0.5]
    assert input_shapes(read_augment(cfg), (128, 128)) == [(128, 128), (64, 64)]


def test_factor_one_is_the_input_itself_when_that_is_not_a_multiple_of_32(make) -> None:
    found = shapes(make(base=(76, 100)))
    assert set(found) == {(32, 64), (76, 100), (128, 160)}


@pytest.mark.parametrize(
    ("shape", "factors", "expected"),
    [
        ((300, 300), [0.75, 1.0, 1.25], [(300, 300), (224, 224), (384, 384)]),
        ((300, 300), [0.75], [(300, 300), (224, 224)]),  # the input stays the shape of evaluation
        ((300, 300), [1.0], [(300, 300)]),
        ((320, 480), [1.0, 0.5], [(320, 480), (160, 256)]),
        ((300, 500), [1, 2], [(300, 500), (608, 992)]),
    ],
)
def test_shapes_of_factors(make_cfg, shape: tuple, factors: list, expected: list) -> None:
    cfg = make_cfg("none").augment
    cfg.multi_scale.factors = factors
    assert input_shapes(read_augment(cfg), shape) == expected
