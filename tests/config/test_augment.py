import pytest
from omegaconf import OmegaConf

from ssd.config.augment import read_augment
from ssd.config.compose import compose
from ssd.config.overrides import groups
from ssd.utils.errors import UserError


@pytest.mark.parametrize("name", groups()["augment"])
def test_every_group_is_valid(name):
    augment = read_augment(compose([f"augment={name}"]).augment)
    assert augment.name == name
    assert isinstance(augment.crop.scales, list)


def test_none_changes_nothing():
    augment = read_augment(compose(["augment=none"]).augment)
    assert augment.mirror == augment.contrast_first == 0
    for name in ("crop", "pad", "hue", "saturation", "illumination", "contrast", "mosaic", "mixup"):
        assert getattr(augment, name).probability == 0
    assert augment.interpolation == "bilinear"


def test_ssd_plus_is_ssd_and_more():
    ssd, plus = (read_augment(compose([f"augment={name}"]).augment) for name in ("ssd", "ssd_plus"))
    assert (ssd.mosaic.probability, ssd.mixup.probability, ssd.contrast_first) == (0, 0, 0)
    assert min(plus.mosaic.probability, plus.mixup.probability, plus.contrast_first) > 0
    assert plus.mix_until < 1
    assert (plus.crop, plus.pad, plus.hue) == (ssd.crop, ssd.pad, ssd.hue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"miror": 0.5}, "augment: .*miror"),
        ({"mirror": "often"}, "augment: .*often"),
        ({"mirror": 1.5}, "augment.mirror=1.5: expected 0 to 1"),
        ({"mosaic": {"probability": -1}}, "augment.mosaic.probability=-1"),
        ({"mix_until": 15}, "augment.mix_until=15"),
        ({"interpolation": "cubic"}, "augment.interpolation=cubic: expected bilinear or random"),
        ({"crop": {"scales": [0.3]}}, r"augment.crop.scales .* must each be \[lowest, highest\]"),
        ({"crop": {"scales": [0.3, 1.2]}}, r"augment.crop.scales=\[0.3, 1.2\]"),
        ({"crop": {"aspect_ratios": [2, 0.5]}}, r"augment.crop.aspect_ratios=\[2.0, 0.5\]"),
        ({"crop": {"overlaps": [0.1, 3]}}, r"augment.crop.overlaps\[1\]=3"),
        ({"crop": {"trials": 0}}, "augment.crop.trials=0"),
        ({"pad": {"max_scale": 0.5}}, "augment.pad.max_scale=0.5"),
        ({"pad": {"fill": 300}}, "augment.pad.fill=300"),
        ({"contrast": {"amount": 1.5}}, "augment.contrast.amount=1.5: expected 0 to 1"),
    ],
)
def test_wrong_values(change, message):
    group = compose(["augment=none"]).augment
    OmegaConf.set_struct(group, False)
    with pytest.raises(UserError, match=message) as error:
        read_augment(OmegaConf.merge(group, change))
    assert "\n" not in str(error.value)


def test_missing_keys_are_named():
    with pytest.raises(UserError, match="augment is incomplete, it lacks contrast.amount"):
        read_augment(OmegaConf.create({"name": "x"}))
