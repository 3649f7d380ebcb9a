"""job=demo from the command line: images, videos, and what is wrong with them."""

import json
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssd.checkpoint.model import ModelSpec, attach_spec
from ssd.config.compose import compose
from ssd.detection import Detector
from ssd.detection.sources import Frame
from ssd.detection.video import Clip
from ssd.jobs import demo
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.utils.errors import UserError

CLASSES = ["circle", "rectangle", "triangle"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, random_weights: Callable[..., Any]) -> str:
    """A checkpoint with random weights, unsure enough to find something everywhere."""
    cfg = compose(["backbone=small"])
    graph = attach_spec(build_train(cfg, len(CLASSES)), ModelSpec.from_config(cfg, CLASSES))
    prefix = tmp_path_factory.mktemp("model") / "ssd"
    mx.model.save_checkpoint(str(prefix), 1, graph, *random_weights(graph, 128))
    return f"{prefix}-0001.params"


@pytest.fixture
def photos(tmp_path: Path, jpeg: Callable[[int, int], bytes]) -> Path:
    """Three images, a note and a video of five frames, 90x60 at 10 a second."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a.jpg": (120, 80), "b.jpg": (64, 64), "c.png": (50, 90)}.items():
        (folder / name).write_bytes(jpeg(*size))
    (folder / "notes.txt").write_text("no image")
    film(tmp_path / "film.avi", jpeg, 5)
    return folder


def film(path: Path, jpeg: Callable[[int, int], bytes], count: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (90, 60))
    for number in range(count):
        image = cv2.imdecode(np.frombuffer(jpeg(90, 60), np.uint8), cv2.IMREAD_COLOR)
        writer.write(np.roll(image, number * 5, axis=1))
    writer.release()


def only(folder: Path) -> Path:
    (found,) = folder.glob("outputs/demo/*/*")
    return found


def test_a_folder(ssd, model: str, photos: Path, tmp_path: Path, same_detections: Callable[..., None]) -> None:
    done = ssd("job=demo", f"model={model}", "source=photos", "job.threshold=0.5")
    assert done.returncode == 0, done.stderr
    out = only(tmp_path)
    assert {file.name for file in out.iterdir()} >= {"config.yaml", "metrics.json", "detections.json", "images"}
    assert not (out / "videos").exists()
    found = json.loads((out / "detections.json").read_text())
    assert [image["file"] for image in found["images"]] == ["a.jpg", "b.jpg", "c.png"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["frames"] == 3
    stages = ("decode", "preprocess", "forward", "nms", "draw", "save")
    assert all(metrics[f"milliseconds/{stage}"] > 0 for stage in stages)
    together = sum(metrics[f"milliseconds/{stage}"] for stage in stages)
    assert metrics["frames_per_second"] == pytest.approx(1000 / together)
    assert "forward" in done.stderr
    expected = Detector.load(model).predict([cv2.imread(str(photos / "b.jpg"))[:, :, ::-1]])[0]
    kept = expected[expected[:, 1] >= 0.5]
    assert len(kept) > 5, "the test needs something to find"
    rows = [[item["class"], item["score"], *item["box"]] for item in found["images"][1]["detections"]]
    same_detections(rows, kept, threshold=0.5)


def test_a_glob_by_classes_and_thresholds(ssd, model: str, photos: Path, tmp_path: Path) -> None:
    overrides = ["job.classes=[circle,triangle]", "job.threshold={circle: 0.2, others: 0.9}", "job.save=[json,csv]"]
    done = ssd("job=demo", f"model={model}", "source=photos/*.jpg", *overrides)
    assert done.returncode == 0, done.stderr
    out = only(tmp_path)
    assert not (out / "images").exists()
    found = json.loads((out / "detections.json").read_text())
    assert found["threshold"] == {"circle": 0.2, "triangle": 0.9}
    scores = [(item["name"], item["score"]) for image in found["images"] for item in image["detections"]]
    assert scores
    assert all(score >= {"circle": 0.2, "triangle": 0.9}[name] for name, score in scores)
    assert len((out / "detections.csv").read_text().splitlines()) == 1 + len(scores)


def test_a_video(ssd, model: str, photos: Path, tmp_path: Path) -> None:
    overrides = ["job.save=[images,json,csv,yolo,voc,coco]", "job.threshold=0.3", "batch_size=2", "job.codec=MJPG"]
    done = ssd("job=demo", f"model={model}", "source=film.avi", *overrides)
    assert done.returncode == 0, done.stderr
    out = only(tmp_path)
    capture = cv2.VideoCapture(str(out / "videos" / "film.avi"))
    assert [capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)] == [5, 10]
    found = json.loads((out / "detections.json").read_text())["images"]
    assert [(item["frame"], item["seconds"]) for item in found] == [(k, k / 10) for k in range(5)]
    assert (out / "coco" / "images" / "film_000004.jpg").is_file()
    assert len(list((out / "voc" / "Annotations").iterdir())) == len(list((out / "yolo" / "labels").iterdir())) == 5
    assert "frame 5 of 5" in done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["frames"] == 5
    for stage in ("decode", "preprocess", "forward", "nms", "draw", "save", "together"):
        (line,) = (line for line in done.stderr.splitlines() if line.startswith(f"{stage:10}"))
        milliseconds, per_second = map(float, line.split()[1:])
        assert per_second == pytest.approx(1000 / milliseconds, rel=0.5)  # both are rounded
    frame = np.asarray(capture.read()[1])
    given = np.asarray(cv2.VideoCapture(str(tmp_path / "film.avi")).read()[1])
    assert found[0]["detections"], "the test needs something to draw"
    assert np.abs(frame.astype(int) - given).max() > 100


def test_a_broken_video(ssd, model: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "film.avi").write_bytes((tmp_path / "film.avi").read_bytes()[:100])
    done = ssd("job=demo", f"model={model}", "source=film.avi")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert errors == ["error: film.avi: neither an image nor a video that can be read; it may be damaged or cut short"]
    assert not list(tmp_path.glob("outputs/demo/*/*/videos/*"))
    assert not list(tmp_path.glob("outputs/demo/*/*/detections.json"))


@pytest.fixture
def run(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """run(overrides…) is job=demo as a function call; returns the run directory."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        demo.run(compose(["job=demo", f"model={model}", *overrides]), folder)
        return folder

    return call


def test_an_end_after_so_many_frames(run: Callable[..., Path], photos: Path) -> None:
    out = run("source=film.avi", "job.frames=3")
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 3
    assert cv2.VideoCapture(str(out / "videos" / "film.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_damage_stops_the_job_when_asked_and_leaves_no_half_results(run: Callable[..., Path], photos: Path) -> None:
    (photos / "b.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"b\.jpg"):
        run("source=photos", "job.damaged=error", "batch_size=1")
    out = photos.parent / "run"
    assert not (out / "detections.json").exists()
    assert [file.name for file in (out / "images").iterdir()] == ["a.jpg"]
    assert len(json.loads((run("source=photos") / "detections.json").read_text())["images"]) == 2


def test_a_video_that_is_cut_short(run: Callable[..., Path], photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = photos.parent / "film.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match="of the 5 frames it should have"):
        run("source=film.avi", "job.damaged=error")
    assert not list(photos.parent.glob("run/videos/*"))
    count = len(json.loads((run("source=film.avi") / "detections.json").read_text())["images"])
    assert 0 < count < 5
    assert f"{count} of the 5 frames it should have" in caplog.text


def camera(count: int, alive: list[int]) -> Callable[..., Iterator[Frame]]:
    """Frames of a camera that is none, and how many of them are kept when the next one comes."""

    def come(*_: object) -> Iterator[Frame]:
        clip, kept = Clip("camera 0", "camera_0", 25.0, 0, live=True), []
        for number in range(count):
            frame = Frame(f"camera_0_{number:06d}.jpg", np.full((48, 64, 3), 9, np.uint8), clip=clip, number=number)
            kept.append(weakref.ref(frame))
            alive.append(sum(reference() is not None for reference in kept))
            yield frame
            del frame
            if number == 4:
                os.kill(os.getpid(), signal.SIGINT)

    return come


def test_a_camera_ends_by_hand_and_all_of_it_is_written(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "frames", camera(1000, []))
    before = signal.getsignal(signal.SIGINT)
    out = run("source=0")
    assert signal.getsignal(signal.SIGINT) is before
    found = json.loads((out / "detections.json").read_text())["images"]
    assert len(found) in (5, 6)
    assert cv2.VideoCapture(str(out / "videos" / "camera_0.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == len(found)


def test_frames_are_let_go_once_they_are_written(
    run: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    monkeypatch.setattr(demo, "frames", camera(24, alive))
    monkeypatch.setattr(os, "kill", lambda *_: None)
    run("source=film.avi", "batch_size=4", "job.save=[json,csv,images]")
    assert len(alive) == 24
    assert max(alive) <= 2 * 4 + 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source=7777"], "there is no camera 7777 here"),
        (["source=photos", "job.save=[images,txt]"], "job.save: 'txt' is none of images, json, csv, yolo, voc, coco"),
        (["source=photos", "job.damaged=maybe"], "job.damaged=maybe: expected skip or error"),
        (["source=photos", "job.frames=0"], "job.frames=0"),
        (["source=photos", "job.codec=x"], "job.codec=x"),
        (["source=photos", "job.classes=[squirrel]"], "job.classes: 'squirrel' is no class of this model"),
        (["source=photos", "job.window=true"], "job.window=true: "),
        ([], "needs model= .*a deploy bundle or an .onnx file"),
    ],
)
def test_mistakes(
    overrides: list[str], message: str, run: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        run(*overrides)
