"""What a job settles before it starts, in a configuration that nobody can change."""

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from ssd.config.compose import compose
from ssd.config.parts import DETECTION_KEYS, detection_config
from ssd.jobs.runtime import on_machine, overfitting, resolved, with_classes, with_decoding
from ssd.utils.process import cores_by_thread, physical_cores, usable_cores


def test_what_changes_results_gets_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("3", 3), ("2,1", 2), ("", physical_cores())):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        cfg = on_machine(compose(["loader=record"]))
        assert cfg.device.threads == expected
        assert cfg.loader.workers == usable_cores()
    cfg = on_machine(compose(["device.threads=5"]))
    assert cfg.device.threads == 5
    assert cfg.loader.workers is None  # whose batches are the same at any number


def test_cores() -> None:
    assert 1 <= physical_cores() <= usable_cores()
    assert sorted(cpu for core in cores_by_thread() for cpu in core)


def test_it_cannot_be_changed_and_says_the_rest_as_before() -> None:
    given = compose([])
    before = OmegaConf.to_yaml(given, resolve=True)
    cfg = with_classes(resolved(given, {"epochs": 3}), ["cat", "${x}"])
    assert OmegaConf.to_yaml(given, resolve=True) == before
    plain, expected = (OmegaConf.to_container(each, resolve=True) for each in (cfg, given))
    expected["epochs"], expected["dataset"]["classes"] = 3, ["cat", "${x}"]
    assert plain == expected
    for key, value in (("epochs", 1), ("dataset.classes", ["dog"]), ("device.threads", 2)):
        with pytest.raises(ReadonlyConfigError):
            OmegaConf.update(cfg, key, value)
    assert resolved(cfg, {"epochs": 4}).epochs == 4
    assert list(cfg.dataset.classes) == ["cat", "${x}"]


def test_a_model_decodes_as_it_says() -> None:
    cfg = compose([])
    said = {**asdict(detection_config(cfg)), "score": 0.25, "soft_nms": "linear"}
    decoding = OmegaConf.to_container(with_decoding(cfg, said).detection)
    assert decoding == {DETECTION_KEYS[field]: value for field, value in said.items()}


def test_a_self_test_is_of_adam_on_images_as_they_are() -> None:
    cfg = compose(["job=check", "augment=ssd", "optimizer=sgd", "training.accumulate=2", "check.steps=100"])
    test = overfitting(cfg, 8)
    assert (test.augment.name, test.optimizer.name, test.schedule.name) == ("none", "adam", "constant")
    assert test.optimizer.learning_rate == cfg.check.learning_rate
    assert test.schedule.warmup == cfg.check.warmup / 100
    assert (test.batch_size, test.training.accumulate, test.epochs) == (8, 1, 100)
    assert OmegaConf.is_readonly(test)
