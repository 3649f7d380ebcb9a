"""job=convert by the command line, and what it leaves in use."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.detection import Detector
from ssd.jobs import convert
from ssd.jobs.convert import check, loose_heads
from ssd.utils.errors import UserError

FACES = "data/ultralight_face_ssd/RFB-320"


@pytest.fixture(scope="session")
def caffe_files(module_at: Callable[[Path], ModuleType]) -> ModuleType:
    """The writer of Caffe's files that tests/importers/caffe uses."""
    return module_at(Path(__file__).resolve().parents[1] / "importers" / "caffe" / "caffe_files.py")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC))
    return folder


def run_folder(folder: Path) -> Path:
    return max(folder.glob("outputs/convert/*/*"))


def test_a_detector_and_its_demo(ssd, tmp_path: Path, images: Path, caffe_files: ModuleType) -> None:
    files = caffe_files.mobilenet_ssd(width=8, classes=3, side=160).save(tmp_path)
    (tmp_path / "mean.binaryproto").write_bytes(
        caffe_files.blob(np.random.default_rng(0).uniform(90, 130, (3, 170, 170)), "old")
    )
    overrides = [
        f"job.prototxt={files[0]}",
        f"job.caffemodel={files[1]}",
        "job.mean=mean.binaryproto",
        "job.scale=0.017",
    ]
    done = ssd("job=convert", *overrides, "job.classes=[cat,dog]", f"source={images}", "detection.max_detections=50")
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path)
    assert "conv1/dw/bn" in done.stderr
    assert "folded into conv1/dw" in done.stderr
    parity = json.loads((run / "parity.json").read_text())
    assert set(parity["outputs"]) == {"mbox_loc", "mbox_conf_flatten", "mbox_priorbox"}
    assert all(boxes["unmatched"] == 0 and boxes["ours"] > 0 for boxes in parity["boxes"].values())
    model = next(line.split()[-1] for line in done.stderr.splitlines() if line.startswith("model "))
    assert Detector.load(model).spec.detection["keep"] == 50
    assert Detector.load(model).classes == ["cat", "dog"]

    done = ssd("job=demo", f"model={model}", f"source={images}", "job.threshold=0.1")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/demo/*/*/images/*.png"))) == 2


def test_a_classifier(ssd, tmp_path: Path, images: Path, caffe_files: ModuleType) -> None:
    net = caffe_files.Net((32, 32))
    net.relu(net.conv("conv", "data", (3, 4), 3, "stride: 2"))
    net.layer("pool", "Pooling", "conv", "pool", "pooling_param { pool: AVE global_pooling: true }")
    net.layer("prob", "Softmax", "pool", "prob")
    files = net.save(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    overrides = [f"job.prototxt={files[0]}", f"job.caffemodel={files[1]}", "job.classes=names.txt"]
    done = ssd("job=convert", *overrides, "job.mean=[123,117,104]", "job.scale=0.02", f"source={images}")
    assert done.returncode == 0, done.stderr
    assert "0.png" in done.stderr
    assert "Classifier.load(" in done.stderr


def test_a_difference_to_opencv_is_an_error(ssd, tmp_path: Path, caffe_files: ModuleType) -> None:
    files = caffe_files.mobilenet_ssd(width=8, classes=3, side=128).save(tmp_path)
    done = ssd("job=convert", f"job.prototxt={files[0]}", f"job.caffemodel={files[1]}", "job.tolerance=1e-12")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the converted network differs from OpenCV's: output mbox_loc by ")
    assert not (run_folder(tmp_path) / "model").exists()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([], "job=convert needs job.prototxt="),
        (["job.prototxt=nowhere"], "job.prototxt=nowhere: there is no such file"),
        (["job.prototxt=a", "job.caffemodel=a", "job.channels=GBR"], "expected BGR or RGB"),
        (["job.prototxt=a", "job.caffemodel=a", "job.scale=0"], "job.scale=0"),
        (["job.prototxt=a", "job.caffemodel=a", "source=nowhere"], "source=nowhere: not found"),
    ],
)
def test_what_is_missing(overrides: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=part):
        check(compose(["job=convert", *overrides]))


@pytest.fixture
def loose_files(tmp_path: Path, caffe_files: ModuleType) -> Callable[[int], list[str]]:
    """loose_files(numbers): overrides for a network that ends with `numbers` per box and two scores, no anchors."""

    def make(numbers: int) -> list[str]:
        net = caffe_files.Net((8, 8))
        for name, width in (("boxes", numbers), ("logits", 2)):
            net.conv(f"{name}_conv", "data", (3, 2 * width), 3, "pad: 1 stride: 4")
            net.layer(f"{name}_perm", "Permute", f"{name}_conv", f"{name}_perm",
                      "permute_param { order: 0 order: 2 order: 3 order: 1 }")  # fmt: skip
            net.layer(name, "Reshape", f"{name}_perm", name,
                      f"reshape_param {{ shape {{ dim: 1 dim: -1 dim: {width} }} }}")  # fmt: skip
        net.layer("scores", "Softmax", "logits", "scores", "softmax_param { axis: 2 }")
        prototxt, caffemodel = net.save(tmp_path)
        return ["job=convert", f"job.prototxt={prototxt}", f"job.caffemodel={caffemodel}"]

    return make


def test_a_detector_without_anchors_asks_for_them(
    loose_files: Callable[[int], list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = loose_files(4)
    with pytest.raises(UserError, match=r"boxes 1x8x4 and scores 1x8x2 .* add job\.priors="):
        convert.run(compose([*overrides, "job.classes=[face]"]), tmp_path / "named")
    caplog.set_level("INFO")
    (tmp_path / "unnamed").mkdir()
    convert.run(compose(overrides), tmp_path / "unnamed")
    assert "job.priors=" in caplog.messages[-1]
    assert (tmp_path / "unnamed" / "model" / "network-0000.params").is_file()


def test_names_for_outputs_that_are_no_classes(loose_files: Callable[[int], list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"job\.classes: .* boxes 1x8x5 and scores 1x8x2"):
        convert.run(compose([*loose_files(5), "job.classes=[face]"]), tmp_path)


def test_the_face_detector(ssd, shared: Path, tmp_path: Path) -> None:
    overrides = [f"job.prototxt={shared / FACES}.prototxt", f"job.caffemodel={shared / FACES}.caffemodel"]
    done = ssd("experiments=ultralight_face", *overrides, f"source={shared / 'data/sample_images/000001.jpg'}")
    assert done.returncode == 0, done.stderr
    parity = json.loads((run_folder(tmp_path) / "parity.json").read_text())
    assert all(output["largest"] < 1e-4 for output in parity["outputs"].values())
    assert parity["boxes"]["000001.jpg"] == {"ours": 200, "theirs": 200, "unmatched": 0}


def test_squeezenet(ssd, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/squeezenet10_caffe"
    overrides = [f"job.prototxt={folder}/SqueezeNet_deploy.prototxt", f"job.classes={folder}/imagenet_synset.txt"]
    overrides += [f"job.caffemodel={folder}/squeezenet_v1.0_decoded.caffemodel", "job.mean=[123,117,104]"]
    done = ssd("job=convert", *overrides, f"source={shared / 'data/sample_images/eagle.jpg'}")
    assert done.returncode == 0, done.stderr
    assert "n01608432 kite" in done.stderr
    parity = json.loads((run_folder(tmp_path) / "parity.json").read_text())
    assert parity["outputs"]["pool_final"]["largest"] < 1e-4


def test_clip_as_earlier_versions_spell_it() -> None:
    priors = {"min_sizes": [[8]], "steps": [8], "variances": [0.1, 0.1, 0.2, 0.2]}
    assert loose_heads({**priors, "clip": "centres"}) == loose_heads({**priors, "clip": "centers"})
