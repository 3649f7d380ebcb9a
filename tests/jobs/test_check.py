"""job=check by the real command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def ssd(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd.run", "job=check", *overrides],
        cwd=folder, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def run_folder(folder: Path) -> Path:
    return max(folder.glob("outputs/check/*/*"))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> tuple[Path, Path, str]:
    """(working folder, VOC folder, what was said) of a check of generated images."""
    folder = tmp_path_factory.mktemp("check")
    done = ssd(folder, "dataset.train=24", "dataset.val=8", "dataset.seed=3", "augment=ssd")
    assert done.returncode == 0, done.stderr
    return folder, next(folder.glob("outputs/datasets/*")), done.stderr


def test_exit_code_0_for_sound_data(healthy):
    folder, _, said = healthy
    run = run_folder(folder)
    assert "safe to train: 0 errors" in said.splitlines()[-1]
    assert {"config.yaml", "check.json", "check.html"} <= {file.name for file in run.iterdir()}
    assert not (run / "checkpoints").exists()
    assert not [file for file in run.iterdir() if file.is_dir() and file.name != ".hydra"]  # records are gone
    report = json.loads((run / "check.json").read_text())
    assert report["safe"] is True
    assert {split: numbers["images"] for split, numbers in report["splits"].items()} == {
        "train": 24,
        "val": 8,
        "test": 8,
    }
    page = (run / "check.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5  # three splits, two passes of augmented images
    assert "augment=ssd" in page


def test_exit_code_1_for_errors_with_one_summary_line(healthy, tmp_path):
    _, voc, _ = healthy
    train = (voc / "ImageSets/Main/train.txt").read_text().splitlines()
    xml = voc / "Annotations" / f"{train[0]}.xml"
    text = xml.read_text()
    image = next((voc / "JPEGImages").glob(f"{train[1]}.*"))
    data = image.read_bytes()
    try:
        xml.write_text(text.replace("<xmax>", "<xmax>9", 1))
        image.write_bytes(data[:-200])
        done = ssd(tmp_path, "dataset=voc", f"dataset.root={voc}")
    finally:
        xml.write_text(text)
        image.write_bytes(data)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert lines[-1].startswith("error: not safe to train: 2 errors (1 unreadable_image, 1 out_of_range), 0 warnings")
    assert done.stderr.count("not safe to train") == 1
    assert "Traceback" not in done.stderr
    report = json.loads((run_folder(tmp_path) / "check.json").read_text())
    message = {(finding["kind"], Path(finding["file"]).name) for finding in report["findings"]["list"]}
    assert message == {("out_of_range", xml.name), ("unreadable_image", image.name)}
    assert "not safe to train" in (run_folder(tmp_path) / "check.html").read_text()


def test_exit_code_2_when_there_is_nothing_to_check(tmp_path):
    done = ssd(tmp_path, "dataset=voc", "dataset.root=nowhere")
    assert done.returncode == 2
    line = "error: dataset.root nowhere: no such folder; it must hold Annotations and JPEGImages"
    assert done.stderr.strip().splitlines()[-1] == line


def test_bccd(shared, tmp_path):
    done = ssd(tmp_path, "dataset=voc", f"dataset.root={shared / 'data/bccd/BCCD'}")
    assert done.returncode == 0, done.stderr
    report = json.loads((run_folder(tmp_path) / "check.json").read_text())
    assert report["splits"]["train"]["boxes"] == 2804
    assert report["splits"]["train"]["classes"]["RBC"] == {"boxes": 2381, "images": 197}
    assert [(row["kind"], row["count"]) for row in report["findings"]["counts"]] == [("similar", 1), ("degenerate", 2)]
    assert report["anchors"]["matched"] == 2579
