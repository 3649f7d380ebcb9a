from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.config.augment import read_augment
from ssd.config.parts import loader_config
from ssd.data.loaders.base import Shard
from ssd.data.loaders.mxnet_iter import RecordLoader, _shuffle_piece, iterator_options
from ssd.data.recordio.cache import Records, ensure_records
from ssd.utils.errors import UserError


@pytest.fixture
def cfg_of(make_cfg):
    loader = SimpleNamespace(name="record", workers=2, prefetch=2)
    return lambda augment="none", **values: make_cfg(augment, loader=loader, **values)


def test_none_gives_the_iterator_nothing_to_do(cfg_of):
    options = iterator_options(read_augment(cfg_of("none").augment))
    assert {key: value for key, value in options.items() if key.endswith("_prob")} == {
        f"{name}_prob": 0.0
        for name in (
            "rand_mirror", "rand_pad", "rand_crop",
            "random_hue", "random_saturation", "random_illumination", "random_contrast",
        )
    }  # fmt: skip
    assert options["num_crop_sampler"] == 0
    assert options["inter_method"] == 1


def test_ssd_has_the_numbers_of_the_original(cfg_of):
    assert iterator_options(read_augment(cfg_of("ssd").augment)) == {
        "rand_crop_prob": pytest.approx(5 / 6),
        "num_crop_sampler": 5,
        "min_crop_scales": (0.3,) * 5,
        "max_crop_scales": (1.0,) * 5,
        "min_crop_aspect_ratios": (0.5,) * 5,
        "max_crop_aspect_ratios": (2.0,) * 5,
        "min_crop_overlaps": (0.1, 0.3, 0.5, 0.7, 0.9),
        "max_crop_overlaps": (1.0,) * 5,
        "min_crop_sample_coverages": (0.0,) * 5,
        "max_crop_sample_coverages": (1.0,) * 5,
        "min_crop_object_coverages": (0.0,) * 5,
        "max_crop_object_coverages": (1.0,) * 5,
        "max_crop_trials": (25,) * 5,
        "crop_emit_mode": "center",
        "rand_pad_prob": 0.5,
        "max_pad_scale": 4.0,
        "fill_value": 127,
        "random_hue_prob": 0.5,
        "max_random_hue": 18,
        "random_saturation_prob": 0.5,
        "max_random_saturation": 32,
        "random_illumination_prob": 0.5,
        "max_random_illumination": 32,
        "random_contrast_prob": 0.5,
        "max_random_contrast": 0.5,
        "inter_method": 10,
        "rand_mirror_prob": 0.5,
    }


@pytest.mark.parametrize("name", ["mild", "light"])
def test_milder_groups(cfg_of, name):
    options = iterator_options(read_augment(cfg_of(name).augment))
    assert options["rand_mirror_prob"] == 0.5
    zooms = {options["rand_crop_prob"] > 0, options["rand_pad_prob"] > 0}
    assert zooms == {name == "mild"}
    assert (options["random_hue_prob"] > 0) is (name == "light")


def test_damaged_records_are_an_error_not_a_hang(voc, tmp_path, cfg_of):
    records = ensure_records(voc.dataset().split("train"), tmp_path / "records", "train", 0)
    data = bytearray(records.rec.read_bytes())
    while (start := data.find(b"\xff\xd8\xff")) >= 0:
        data[start : start + 3] = b"bad"
    records.rec.write_bytes(data)
    with pytest.raises(UserError, match="train.rec: MXNet cannot read it .* delete its folder") as error:
        list(RecordLoader(records, loader_config(cfg_of()), records.label_width, Shard()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("megabytes", "count", "side", "piece"),
    [(2, 360, 128, 0), (4, 205, 300, 0), (2, 360, 512, 1), (1900, 16551, 300, 4), (1900, 16551, 512, 4)],
)
def test_shuffle_piece(tmp_path, megabytes, count, side, piece):
    """Small sets are shuffled freely, large ones by pieces, and neither decodes more than fits."""
    rec = tmp_path / "a.rec"
    with rec.open("wb") as file:
        file.truncate(megabytes * 10**6)
    records = Records(rec, rec, rec, count, 20)
    assert _shuffle_piece(records, (side, side)) == piece


def test_a_file_cut_into_pieces_is_still_seen_once_per_pass(voc, tmp_path, cfg_of, monkeypatch):
    names = [f"n{number}" for number in range(20)]
    for name in names:
        noise = np.random.default_rng(int(name[1:])).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        # What follows the end of a JPEG is ignored: it makes the file large enough to be cut.
        voc.add(name, [], cv2.imencode(".jpg", noise)[1].tobytes() + bytes(200_000) + b"\xff\xd9")
    voc.sets(train=names)
    records = ensure_records(voc.dataset(classes=["cat"]).split("train"), tmp_path / "r", "train", 0)
    monkeypatch.setattr("ssd.data.loaders.mxnet_iter._shuffle_piece", lambda *_: 1)
    loader = RecordLoader(records, loader_config(cfg_of(batch_size=5)), records.label_width, Shard())
    seen = []
    for _ in range(4):
        loader.reset()
        seen.append([index for batch in loader for index in batch.index])
    assert (np.sort(seen) == np.arange(20)).all()
    assert len({tuple(order) for order in seen}) == 4
