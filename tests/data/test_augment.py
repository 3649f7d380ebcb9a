import pytest
from omegaconf import OmegaConf

from ssd.data.augment import iterator_options
from ssd.errors import UserError


def test_none_changes_nothing(make_cfg):
    options = iterator_options(make_cfg("none").augment)
    assert {key: value for key, value in options.items() if key.endswith("_prob")} == {
        f"{name}_prob": 0.0
        for name in (
            "rand_mirror", "rand_pad", "rand_crop",
            "random_hue", "random_saturation", "random_illumination", "random_contrast",
        )
    }  # fmt: skip
    assert options["num_crop_sampler"] == 0
    assert options["inter_method"] == 1


def test_ssd_has_the_numbers_of_the_original(make_cfg):
    assert iterator_options(make_cfg("ssd").augment) == {
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
def test_milder_groups(make_cfg, name):
    options = iterator_options(make_cfg(name).augment)
    assert options["rand_mirror_prob"] == 0.5
    zooms = {options["rand_crop_prob"] > 0, options["rand_pad_prob"] > 0}
    assert zooms == {name == "mild"}
    assert (options["random_hue_prob"] > 0) is (name == "light")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"miror": 0.5}, "augment: .*miror"),
        ({"mirror": "often"}, "augment: .*often"),
        ({"interpolation": "cubic"}, "augment.interpolation is 'cubic', it must be one of bilinear, random"),
        ({"crop": {"probability": 1.0, "scales": [0.3]}}, r"augment.crop.scales .* must each be \[lowest, highest\]"),
    ],
)
def test_wrong_values(make_cfg, change, message):
    group = make_cfg("none").augment
    OmegaConf.set_struct(group, False)
    with pytest.raises(UserError, match=message):
        iterator_options(OmegaConf.merge(group, change))


def test_missing_keys_are_named():
    with pytest.raises(UserError, match="augment is incomplete, it lacks contrast.amount"):
        iterator_options(OmegaConf.create({"name": "x"}))
