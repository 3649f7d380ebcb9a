"""Keys of a recipe that are wrong are reported in one line."""

import pytest

from ssd.config.compose import compose
from ssd.utils.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["init.mode=resume"], "init.mode=resume: expected scratch or pretrained or finetune"),
        (["init.mode=scratch", "init.weights=x.params"], "init.weights=x.params: say what for"),
        (["init.mode=finetune", "init.weights=x.npz"], "use init.mode=pretrained"),
        (["init.mode=pretrained", "init.weights=x.npz"], "with the group weight_map="),
        (["init.mode=pretrained", "init.weights=x.params", "weight_map=mobilenet_torch"], "weight_map=: is of an .npz"),
        (["init.freeze_bn=true"], "from scratch has no BatchNorm"),
        (["init.freeze_bn=fixed"], "init.freeze_bn=fixed: Value 'fixed' is not a valid bool"),
        (["init.lr_mult.heads=-1"], "init.lr_mult.heads=-1"),
        (["init.lr_mult.head=1"], "init.lr_mult.heads"),
        (["loss.classification=hinge"], "expected softmax or focal"),
        (["loss.label_smoothing=1"], "loss.label_smoothing=1"),
        (["loss.classification=focal", "loss.label_smoothing=0.1"], "is of loss.classification=softmax"),
        (["loss.focal.alpha=1"], "loss.focal.alpha=1"),
        (["loss.focal.prior=0"], "loss.focal.prior=0"),
        (["loss.focal.gamma=-1"], "at least 0"),
        (["optimizer=sgd", "optimizer.learning_rate=abc"], "optimizer.learning_rate=abc: expected a number"),
        (["optimizer.learning_rate=null"], "optimizer.learning_rate=null: expected a number"),
        (["optimizer.learning_rate=nan"], "optimizer.learning_rate=nan: expected a number"),
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate=-1: expected at least 0"),
        (["optimizer.wd=-1e-4"], "optimizer.wd=-0.0001: expected at least 0"),
        (["optimizer.clip_gradient=0"], "optimizer.clip_gradient=0: expected more than 0"),
        (["optimizer=sgd", "optimizer.momentum=1"], "optimizer.momentum=1: expected at least 0 and less than 1"),
        (["optimizer=adadelta", "optimizer.rho=9"], "optimizer.rho=9: expected at least 0 and less than 1"),
        (["optimizer=adadelta", "optimizer.epsilon=0"], "optimizer.epsilon=0: expected more than 0"),
        (["schedule.warmup=long"], "schedule.warmup=long: expected a number"),
        (["schedule=step", "schedule.milestones=[0.5,x]"], "schedule.milestones=x: expected a number"),
        (["matching.mining=loss"], "expected image or batch"),
        (["matching.overlap=0"], "matching.overlap=0.0: expected an IoU"),
        (["matching.negative_overlap=0"], "matching.negative_overlap=0.0: expected an IoU"),
        (["matching.negative_overlap=50"], "matching.negative_overlap=50.0: expected an IoU"),
        (["matching.negative_ratio=-1"], "matching.negative_ratio=-1.0: expected at least 0"),
        (["matching.min_negatives=-1"], "matching.min_negatives=-1: expected at least 0"),
        (["training.ema=1"], "training.ema=1"),
        (["training.precision=int8"], "expected float32 or bfloat16 or float16"),
        (["training.weight_decay=none"], "expected weights or all"),
        (["training.accumulate=0"], "training.accumulate=0: expected at least 1"),
        (["training.accumulate=3"], "batch_size=16 cannot be shared evenly by 3 passes, take a multiple of 3"),
        (
            ["training.accumulate=4", "batch_size=12", "device.ids=[0,1]"],
            "batch_size=12 cannot be shared evenly by 4 passes on 2 devices each, take a multiple of 8",
        ),
        (["weight_map=torch"], "weight_map=torch: no such choice"),
        (["head=ssdbn"], "did you mean 'ssd_bn'"),
    ],
)
def test_mistakes_are_told_in_one_line(overrides: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_training_needs_equal_passes() -> None:
    assert compose(["training.accumulate=4", "job=eval", "model=x", "batch_size=1"]).batch_size == 1
