import contextlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssd.data.base import Sample
from ssd.data.datasets.build import make_dataset
from ssd.detection.results import ImageResult, write_coco
from ssd.evaluation import evaluate_coco, evaluate_voc
from ssd.evaluation.coco import NAMES, Numbering
from ssd.utils.errors import UserError

BOX = [0, 0, 50, 50]
FAR = [100, 100, 150, 150]


def test_perfect_detections():
    result = evaluate_coco([np.array([[0, *BOX], [1, *FAR]])], [np.array([[0, 0.9, *BOX], [1, 0.8, *FAR]])], 2)
    assert tuple(result) == NAMES
    assert result["AP"] == pytest.approx(1)
    assert result["APmedium"] == pytest.approx(1)
    assert math.isnan(result["APsmall"])  # 50 x 50 pixels is medium
    assert result["AR100"] == pytest.approx(1)


def test_half_overlap_counts_at_one_threshold_of_ten():
    result = evaluate_coco([np.array([[0, *BOX]])], [np.array([[0, 0.9, 0, 0, 50, 25]])], 1)
    assert result["AP50"] == pytest.approx(1)
    assert result["AP75"] == 0
    assert result["AP"] == pytest.approx(0.1)


@pytest.mark.parametrize("flags", [[1], [0, 1]], ids=["difficult", "crowd"])
def test_ignored_objects_count_neither_way(flags):
    truth = np.array([[0, *BOX, *np.zeros(len(flags))], [0, *FAR, *flags]])
    missed = evaluate_coco([truth], [np.array([[0, 0.5, *BOX]])], 1)
    found = evaluate_coco([truth], [np.array([[0, 0.5, *BOX], [0, 0.9, *FAR]])], 1)
    assert missed["AP"] == pytest.approx(1)
    assert found["AP"] == pytest.approx(1)


def test_a_crowd_swallows_many_detections_a_difficult_object_one():
    inside = np.array([[0, 0.5, *BOX], [0, 0.9, 100, 100, 120, 120], [0, 0.8, 120, 120, 140, 140]])
    crowd = np.array([[0, *BOX, 0, 0], [0, *FAR, 0, 1]])
    difficult = np.array([[0, *BOX, 0, 0], [0, *FAR, 1, 0]])
    assert evaluate_coco([crowd], [inside], 1)["AP50"] == pytest.approx(1)
    assert evaluate_coco([difficult], [inside], 1)["AP50"] == pytest.approx(1 / 3)


def test_nothing_detected_and_nothing_there():
    assert evaluate_coco([np.array([[0, *BOX]])], [np.zeros((0, 6))], 1)["AP"] == 0
    assert math.isnan(evaluate_coco([np.zeros((0, 5))], [np.array([[0, 0.9, *BOX]])], 1)["AP"])
    assert math.isnan(evaluate_coco([], [], 1)["AP"])


def test_says_nothing(capsys):
    evaluate_coco([np.array([[0, *BOX]])], [np.array([[0, 0.9, *BOX]])], 1)
    assert capsys.readouterr().out == ""


def test_bad_input_is_told():
    with pytest.raises(UserError, match="image 0 holds class 3"):
        evaluate_coco([np.array([[3, *BOX]])], [np.zeros((0, 6))], 2)


@pytest.mark.parametrize("seed", range(5))
def test_ap50_agrees_with_the_area_of_voc(seed):
    """With one object per image and class the two matchers agree, and AP50 is the VOC area sampled at 101 recalls:
    with more than a few hundred objects the sampling error is far below 0.01."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(300):
        corner = rng.uniform(0, 100, 2)
        box = np.concatenate([corner, corner + rng.uniform(20, 60, 2)])
        truth.append(np.array([[0, *box]]))
        found.append(np.array([[0, rng.random(), *(box + rng.normal(0, 6, 4))] for _ in range(3)]))
    voc, coco = evaluate_voc(truth, found, 1), evaluate_coco(truth, found, 1)
    assert 0.1 < voc["map_area"] < 0.9
    assert coco["AP50"] == pytest.approx(voc["map_area"], abs=0.01)


def test_recall_agrees_with_voc(random_case):
    """pycocotools' AR at IoU .5 is no output, but AR100 cannot exceed VOC's recall at .5."""
    truth, found = random_case(3, images=20)
    truth = [boxes[boxes[:, 5] == 0] for boxes in truth]
    voc = evaluate_voc(truth, found, 3)
    assert evaluate_coco(truth, found, 3)["AR100"] <= np.mean(voc["true_positives"] / voc["positives"]) + 1e-9


def test_published_coco_fixture(shared):
    folder = shared / "data" / "metrics"
    expected = json.loads((folder / "expected.json").read_text())["coco_case"]
    truth = json.loads((folder / "coco_case/gts/sampled_gts_bbox_area.json").read_text())
    found = json.loads((folder / "coco_case/dets/sampled_bbox_results.json").read_text())
    label = {category["id"]: index for index, category in enumerate(truth["categories"])}
    images = sorted(image["id"] for image in truth["images"])  # the order decides between equal scores
    per_image = [
        {image: [row for row in annotations if row["image_id"] == image] for image in images}
        for annotations in (truth["annotations"], found["annotations"])
    ]
    boxes, detections = (
        [np.array([_row(row, label) for row in rows[image]]) for image in images] for rows in per_image
    )
    result = evaluate_coco(boxes, detections, len(label))
    for name in NAMES:
        assert result[name] == pytest.approx(expected[name], abs=5.1e-7), name


def _row(annotation, label):
    x, y, width, height = annotation["bbox"]
    score = [annotation["score"]] if "score" in annotation else []
    return [label[annotation["category_id"]], *score, x, y, x + width, y + height]


def official(annotations: Path, results: Path) -> list[float]:
    """pycocotools' twelve numbers of two files, read as anyone would."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def coco_file(folder: Path, rng: np.random.Generator, image_id: Callable[[int], int | str]) -> Path:
    """A file with what makes results go wrong: ids that have nothing to do with the names and are in no order,
    categories with gaps that are not sorted, crowds, areas of masks, boxes without area, and no objects at all."""
    categories = [{"id": number, "name": name} for number, name in ((90, "tv"), (3, "car"), (17, "cat"))]
    images, annotations = [], []
    for number in rng.permutation(12).tolist():
        name = f"{(number * 5 + 1) % 12 + 1}.jpg"
        (folder / name).write_bytes(b"")
        images.append({"id": image_id(number), "file_name": name, "width": 400, "height": 300})
        for _ in range(int(rng.integers(0, 6))):
            x, y = rng.uniform(0, 200), rng.uniform(0, 120)
            width, height = rng.choice([0, 20, 90, 180]) * rng.uniform(0.8, 1), rng.uniform(5, 175)
            box = [round(float(value), 2) for value in (x, y, width, height)]
            annotations.append({
                "id": 7 * len(annotations) + 3, "image_id": image_id(number), "bbox": box,
                "category_id": int(rng.choice([3, 17, 90])), "iscrowd": int(rng.random() < 0.2),
                "area": round(box[2] * box[3] * float(rng.uniform(0.3, 1)), 3),
            })  # fmt: skip
    path = folder / "val.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.mark.parametrize("order", [None, ["cat", "tv", "car"]], ids=["by id", "given"])
@pytest.mark.parametrize(
    "image_id",
    [lambda number: (number * 7 + 60) % 97, lambda number: f"image {number * 7 % 12}", lambda n: f"{900 - n}"],
    ids=["numbers", "texts", "digits"],
)
def test_the_written_results_give_the_runs_numbers_on_the_users_file(tmp_path, image_id, order):
    rng = np.random.default_rng(5)
    path = coco_file(tmp_path, rng, image_id)
    splits = {"train": {"annotations": "val.json"}, "val": {"annotations": "val.json"}}
    node = {"_target_": "ssd.data.datasets.coco.COCO", "root": str(tmp_path), "classes": order, "splits": splits,
            "out_of_range": "clip", "holdout": {"val": 0.2, "test": 0, "seed": 0}}  # fmt: skip
    dataset = make_dataset(node)
    samples = dataset.split("val")
    found = []
    for sample in samples:
        rows = np.concatenate([sample.ground_truth()[:, :5]] * 3)
        rows[:, 1:] += rng.normal(0, 4, (len(rows), 4))
        scores = rng.integers(1, 8, len(rows)) / 8 + rng.choice([0, 1e-8, 3e-7], len(rows))  # many equal ones
        rows = np.column_stack([rows[:, 0], scores, rows[:, 1:]]).astype(np.float32)
        found.append(rows[np.argsort(-rows[:, 1], kind="stable")])
    numbering = Numbering.of(samples, dataset.split_category_ids("val"), 3)
    assert numbering.own
    images = [ImageResult(sample.path.name, sample.width, sample.height, rows)
              for sample, rows in zip(samples, found, strict=True)]  # fmt: skip
    write_coco(tmp_path / "results.json", images, numbering.images, numbering.categories)
    truth = [sample.ground_truth() for sample in samples]
    ours = evaluate_coco(truth, found, 3, numbering, [sample.annotated for sample in samples])
    assert [-1 if math.isnan(value) else value for value in ours.values()] == official(path, tmp_path / "results.json")
    assert len({round(value, 6) for value in ours.values()}) > 6


def test_ids_that_stand_for_two_images_are_counted_anew():
    def of(*ids: int | str | None, categories=(3, 5)) -> Numbering:
        samples = [Sample("x", Path("x"), 1, 1, np.zeros((0, 6), np.float32), image_id=number) for number in ids]
        return Numbering.of(samples, categories, 2)

    assert of(60, 50) == Numbering([60, 50], (3, 5), True)
    for ids in ((60, 60), (60, None), (60, "60"), (None, None)):
        assert of(*ids) == Numbering(range(1, 3), (3, 5), False)
    for categories in (None, (3, 3), (3,), (3, "3")):
        assert of(60, 50, categories=categories) == Numbering([60, 50], range(1, 3), False)
