"""Detections and ground truth as images. Every function returns a new image and leaves its input alone.

Images are HxWx3 uint8 RGB; boxes are in pixels of the image. Line width and text grow with the image, so that an image
stays readable when it is shown at the size of a window.
"""

import colorsys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax in whole pixels

FONT = cv2.FONT_HERSHEY_SIMPLEX
BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
MOST_LABELS = 1 / 3  # share of the image that labels may cover together
TRUTH: Color = (0, 170, 60)  # ground truth is dashed in this green on white, whatever the class
MISTAKE: Color = (230, 30, 40)  # missed objects and false detections, where images tell them from the others
NEITHER: Color = (140, 140, 140)  # what counts neither way


@dataclass(frozen=True)
class _Pen:
    """Sizes in pixels that suit one image."""

    line: int
    font: float
    stroke: int
    margin: int

    @classmethod
    def of(cls, image: np.ndarray) -> "_Pen":
        side = min(image.shape[:2])
        font = float(np.clip(side / 900, 0.32, 6))  # below .32 Hershey letters run together
        return cls(max(1, round(side / 220)), font, max(1, round(font * 1.6)), max(1, round(font * 4)))


def class_color(label: int) -> Color:
    """The color of a class, by its index alone: the same in every image and every run, neighbors far apart."""
    hue = label * 0.618034 % 1  # steps of the golden ratio never come close to an earlier one for long
    saturation, value = ((0.95, 1.0), (0.6, 1.0), (0.95, 0.72))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    image: np.ndarray,
    detections: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    colors: Sequence[Color] | None = None,
) -> np.ndarray:
    """Boxes and labels "name 0.87" of the detections [N, 6] (class, score, corners) with score >= threshold, in the
    given colors [N] or those of their classes."""
    canvas, pen = np.array(image, order="C"), _Pen.of(image)
    taken: list[Rectangle] = []
    colors = colors or [class_color(int(row[0])) for row in detections]
    pairs = [(row, color) for row, color in zip(detections, colors, strict=True) if row[1] >= threshold]
    pairs.sort(key=lambda pair: pair[0][1])
    for row, color in pairs:
        cv2.rectangle(canvas, *_points(row[2:6], canvas), color, pen.line)
    for row, color in reversed(pairs):  # best first: it gets the best place
        label = int(row[0])
        name, score = printable(class_names[label], label), f"{row[1]:.2f}"
        _put_label(canvas, (f"{name} {score}", name, score), row[2:6], color, taken)
    return canvas


def draw_ground_truth(
    image: np.ndarray, boxes: np.ndarray, class_names: Sequence[str], colors: Sequence[Color] | None = None
) -> np.ndarray:
    """Dashed boxes and names of the ground truth [M, 5 or 6] (class, corners[, difficult]); colors [M] of dashes."""
    canvas, pen = np.array(image, order="C"), _Pen.of(image)
    taken: list[Rectangle] = []
    for row, color in zip(boxes, colors or [TRUTH] * len(boxes), strict=True):
        _dashed(canvas, row[1:5], pen, color)
    for row in boxes:
        name = printable(class_names[int(row[0])], int(row[0]))
        difficult = len(row) > 5 and row[5] > 0
        texts = (f"{name} (difficult)", f"{name} ?", name) if difficult else (name,)
        _put_label(canvas, texts, row[1:5], WHITE, taken)
    return canvas


def side_by_side(
    image: np.ndarray, ground_truth: np.ndarray, detections: np.ndarray, names: Sequence[str], threshold: float
) -> np.ndarray:
    """One image of both, titled: ground truth on the left, detections with score >= threshold on the right."""
    shown = sum(row[1] >= threshold for row in detections)
    left = _titled(draw_ground_truth(image, ground_truth, names), _titles("ground truth", len(ground_truth)))
    right = _titled(draw(image, detections, names, threshold), _titles("detections", shown))
    gap = np.full((len(left), max(2, image.shape[1] // 100), 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def printable(name: str, label: int) -> str:
    """A class name in ASCII, all that OpenCV's fonts can draw: accents dropped, "class 3" if nothing would be left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain if letter.isprintable()).strip() or f"class {label}"


def _points(box: np.ndarray, canvas: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner pixels of a box in continuous coordinates, inside the image."""
    height, width = canvas.shape[:2]
    limit = np.array([width, height, width, height]) - 1
    inclusive = np.nan_to_num(np.asarray(box, np.float64)) - [0, 0, 1, 1]
    xmin, ymin, xmax, ymax = np.clip(np.rint(inclusive), 0, limit).astype(int).tolist()
    return (xmin, ymin), (max(xmin, xmax), max(ymin, ymax))


def _dashed(canvas: np.ndarray, box: np.ndarray, pen: _Pen, color: Color) -> None:
    """A white outline with colored dashes on it: visible on any background, never mistaken for a detection."""
    (xmin, ymin), (xmax, ymax) = _points(box, canvas)
    cv2.rectangle(canvas, (xmin, ymin), (xmax, ymax), WHITE, pen.line)
    dash = pen.line * 6
    for x in range(xmin, xmax + 1, dash * 2):
        for y in (ymin, ymax):
            cv2.line(canvas, (x, y), (min(x + dash, xmax), y), color, pen.line)
    for y in range(ymin, ymax + 1, dash * 2):
        for x in (xmin, xmax):
            cv2.line(canvas, (x, y), (x, min(y + dash, ymax)), color, pen.line)


def _put_label(canvas: np.ndarray, texts: Sequence[str], box: np.ndarray, color: Color, taken: list[Rectangle]) -> None:
    """Write the first of the texts that fits the image on a filled background, at the box and clear of earlier labels.

    Where no text fits or every place is taken nothing is written: better one label less than two that hide each other.
    Nor once labels cover MOST_LABELS of the image: on a thumbnail they would hide the objects.
    """
    pen = _Pen.of(canvas)
    text = _fitting(texts, canvas.shape[1], pen)
    (text_width, text_height), below = cv2.getTextSize(text, FONT, pen.font, pen.stroke)
    wide, high = text_width + 2 * pen.margin, text_height + below + 2 * pen.margin
    covered = wide * high + sum((other[2] - other[0]) * (other[3] - other[1]) for other in taken)
    if wide > canvas.shape[1] or high > canvas.shape[0] or covered > MOST_LABELS * canvas.shape[0] * canvas.shape[1]:
        return
    places = _places(_points(box, canvas), (wide, high), (canvas.shape[1], canvas.shape[0]))
    free = [place for place in places if not any(_touch(place, (wide, high), other) for other in taken)]
    if not free:
        return
    x, y = free[0]
    taken.append((x, y, x + wide, y + high))
    cv2.rectangle(canvas, (x, y), (x + wide - 1, y + high - 1), color, cv2.FILLED)
    ink = BLACK if np.dot(color, (0.299, 0.587, 0.114)) > 120 else WHITE
    origin = (x + pen.margin, y + pen.margin + text_height)
    cv2.putText(canvas, text, origin, FONT, pen.font, ink, pen.stroke, cv2.LINE_AA)


def _fitting(texts: Sequence[str], width: int, pen: _Pen) -> str:
    """The first text narrow enough, or the last one."""
    room = width - 2 * pen.margin
    return next((text for text in texts if cv2.getTextSize(text, FONT, pen.font, pen.stroke)[0][0] <= room), texts[-1])


def _places(
    points: tuple[tuple[int, int], tuple[int, int]], size: tuple[int, int], image: tuple[int, int]
) -> list[tuple[int, int]]:
    """Top left corners a label may have: above the box, inside its top or bottom, below it; at its left, then right."""
    (xmin, ymin), (xmax, ymax) = points
    wide, high = size
    return [
        (min(max(x, 0), image[0] - wide), min(max(y, 0), image[1] - high))
        for x in (xmin, xmax - wide + 1)
        for y in (ymin - high, ymin, ymax - high + 1, ymax + 1)
    ]


def _touch(place: tuple[int, int], size: tuple[int, int], other: Rectangle) -> bool:
    return (
        place[0] < other[2] and other[0] < place[0] + size[0] and place[1] < other[3] and other[1] < place[1] + size[1]
    )


def _titles(what: str, count: int) -> tuple[str, str, str]:
    return f"{what}: {count}", f"{what.split()[-1]} {count}", f"{what[:3]} {count}"


def _titled(image: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """The image under a dark strip with the first of the titles that fits."""
    pen = _Pen.of(image)
    title = _fitting(titles, image.shape[1], pen)
    (_, height), below = cv2.getTextSize(title, FONT, pen.font, pen.stroke)
    strip = np.full((height + below + 2 * pen.margin, image.shape[1], 3), 30, np.uint8)
    cv2.putText(strip, title, (pen.margin, height + pen.margin), FONT, pen.font, WHITE, pen.stroke, cv2.LINE_AA)
    return np.concatenate([strip, image], axis=0)
