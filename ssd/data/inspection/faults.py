"""What is fatal about a sample or a split once its format could be read: training would stop, learn or measure wrong.

Every function yields ssd.data.inspection.problems.Problem, whose file is that of the image; of severity ERROR, but for
coverage_remarks().
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ssd.data.base import Sample
from ssd.data.coverage import HARMLESS, Coverage
from ssd.data.inspection.checks import TOLERANCE
from ssd.data.inspection.looking import ImageFacts, size_problem
from ssd.data.inspection.problems import WARNING, Problem

SHARES_SIDE = 16  # pixels from which an image is too large for boxes that end at its first pixel
UNLISTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # in paths: .lst files have one a line
MOST_UNLABELED = 0.5  # of the images of a split


def box_faults(sample: Sample, classes: int) -> Iterator[Problem]:
    """Of the boxes [N, 6] of a sample, as ssd.data.base.Sample has them, and of its annotated size."""
    file = str(sample.path)
    if min(sample.width, sample.height) <= 0:
        what = f"the annotation has no size of the image, or a wrong one ({sample.width}x{sample.height})"
        yield Problem("image_size", file, None, what)
        return
    broken = False
    for number, row in enumerate(sample.boxes.tolist(), start=1):
        if fault := _box_fault(row, (sample.width, sample.height), classes):
            broken = True
            yield Problem(fault[0], file, number, fault[1])
    if broken or not len(sample.boxes):
        return
    if sample.boxes[:, 1:5].max() <= 1 and min(sample.width, sample.height) >= SHARES_SIDE:
        yield Problem("units", file, None, "all boxes end at the first pixel: these are shares 0..1, not pixels")


def _box_fault(row: Sequence[float], size: tuple[int, int], classes: int) -> tuple[str, str] | None:
    """Kind and text of what no reader of this package lets through, but one of the user's own may."""
    label, xmin, ymin, xmax, ymax = row[:5]
    box = f"box ({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g})"
    if not np.isfinite(row).all():
        return "object", f"{box} of class {label:g} holds a number that is not finite"
    if label != int(label) or not 0 <= label < classes:
        return "class", f"class {label:g} is none of 0..{classes - 1}"
    if xmax < xmin or ymax < ymin:
        return "swapped", f"{box}, has swapped corners"
    if xmax == xmin or ymax == ymin:
        return "degenerate", f"{box}, has no area"
    if max(-xmin, -ymin, xmax - size[0], ymax - size[1]) > TOLERANCE:
        return "out_of_range", f"{box}, leaves the image of {size[0]}x{size[1]}"
    return None


def image_faults(sample: Sample, image: ImageFacts) -> Iterator[Problem]:
    """Of the image file of a sample."""
    if found := UNLISTABLE.search(str(sample.path)):
        shown = "is not UTF-8 text" if found[0] >= "\ud800" else f"holds {ascii(found[0])}"
        yield Problem("name", str(sample.path), None, f"its path {shown}, as no line of a list can; rename it")
    if image.size is None:
        yield Problem("unreadable_image", str(sample.path), None, str(image.error))
    elif min(sample.width, sample.height) > 0 and (what := size_problem(sample, image.size)):
        yield Problem("image_size", str(sample.path), None, what)


def double_faults(samples: Sequence[Sample]) -> dict[int, Problem]:
    """Position -> problem, of the later ones of samples of a split that share their file or their id."""
    found: dict[int, Problem] = {}
    files: set[str] = set()
    ids: dict[str, Sample] = {}
    for place, sample in enumerate(samples):
        file = str(sample.path)
        if file in files:
            found[place] = Problem("double", file, None, "the image is listed twice in the split; list it once")
        elif sample.id in ids:
            what = f"two images of the split have the id {sample.id!r}, the other is {ids[sample.id].path}"
            found[place] = Problem("double", file, None, what)
        files.add(file)
        ids.setdefault(sample.id, sample)
    return found


def split_faults(split: str, samples: Sequence[Sample], coverage: Coverage) -> Iterator[Problem]:
    """Of a split as a whole: most of its images have no label file, or it shows no object."""
    missing = len(coverage.unlabeled)
    images = len(samples) + (0 if _is_in(samples, coverage.unlabeled) else missing)
    searched = f" (looked for {', '.join(coverage.searched)})" if coverage.searched else ""
    if missing > MOST_UNLABELED * images:
        what = f"{missing} of the {images} images of {split} have no label file{searched}; an image that shows "
        yield Problem("labels", "", None, what + "no object needs an empty one")
    elif not any(len(sample.boxes) for sample in samples):
        what = f"none of the {len(samples)} images of {split} has an object; are the annotations those of these images"
        yield Problem("empty", "", None, f"{what}, and dataset.classes those of the annotations?")


def coverage_remarks(coverage: Coverage) -> Iterator[Problem]:
    """Warnings for every file that was looked for and not found, or found and not used, but for what never counts."""
    searched = f"; looked for {', '.join(coverage.searched)}" if coverage.searched else ""
    for file in coverage.unlabeled:
        yield Problem("unlabeled", file, None, f"the image has no label file{searched}", WARNING)
        searched = ""  # of the first one
    for file in coverage.orphans:
        yield Problem("orphan", file, None, "the label belongs to no image", WARNING)
    for reason, files in coverage.skipped.items():
        if reason not in HARMLESS:
            for file in files:
                yield Problem("passed_over", file, None, f"passed over, one of: {reason}", WARNING)


def _is_in(samples: Sequence[Sample], unlabeled: Sequence[str]) -> bool:
    """Whether unlabeled images count as images of the split, see Coverage: all of them do, or none."""
    return any(str(sample.path).endswith(unlabeled[0]) for sample in samples) if unlabeled else False


def shared_images(splits: Mapping[str, Sequence[object]]) -> Iterator[tuple[str, str, int]]:
    """(split, other split, images of the first that are in the other, too). splits: what tells images apart."""
    names = list(splits)
    for place, name in enumerate(names):
        for other in names[:place]:
            if common := len(set(splits[name]) & set(splits[other])):
                yield name, other, common
