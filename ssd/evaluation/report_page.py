"""report.html of one measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ssd.evaluation.analysis import Analysis
from ssd.evaluation.curves import MOST_NAMED, curve_data
from ssd.evaluation.measure import EvalResult
from ssd.evaluation.report_gallery import gallery
from ssd.evaluation.report_matrix import confusion_matrix
from ssd.evaluation.thresholds import exact, rounded_down
from ssd.report.html import Column, definitions, number, page, section, share_bar, table, text, tiles
from ssd.report.svg import Axis, Line, bars, color, line_chart

CURVE_POINTS = 150  # of each class in the drawing
WHAT = {
    "class": "right box, wrong class",
    "localisation": "right class, box too far off",
    "both": "wrong class and box too far off",
    "duplicate": "an object found twice",
    "background": "nothing there",
    "missed": "an object not found",
}


@dataclass(frozen=True)
class ReportMeta:
    """Where the numbers come from, as the report says it. split: whose images they are of, and same_images: another
    split that is the same ones. facts: name -> value, in order. iou, compat, worst_images: as in cfg.metric.
    category_ids: COCO's id of each class, if the dataset has them. page: name of the file."""

    title: str
    split: str
    same_images: str | None
    page: str
    facts: dict[str, str]
    iou: float
    compat: str | None
    worst_images: int
    category_ids: Sequence[int | str] | None


def report(measured: EvalResult, analysis: Analysis, about: ReportMeta) -> bytes:
    """The page as bytes: self-contained, nothing is loaded when it is opened."""
    facts = " · ".join(f"{escape(name)} <code>{escape(value)}</code>" for name, value in about.facts.items())
    limits = escape(analysis.thresholds.describe(about.split))
    return page(
        about.title,
        facts,
        [
            tiles(_headline(measured, analysis, about), 2),
            _warnings(analysis, about),
            section("Classes", f"At each class's threshold: {limits}.", _class_table(measured, analysis)),
            section("Precision and recall", "Best class first, with its average precision (area).", _curves(measured)),
            section(
                "Confusion matrix",
                f"Rows: what it is. Columns: what it was taken for. Detections from each class's threshold on, paired "
                f"with objects at IoU ≥ {about.iou:g}.",
                confusion_matrix(analysis.confusion.counts, measured.classes),
            ),
            section("What mistakes cost", "mAP (area) that repairing all mistakes of one kind would gain.",
                    _mistakes(analysis)),
            _gallery(measured, analysis, about),
            section("How to read this", "", definitions(_meanings(about))),
        ],
    )  # fmt: skip


def _headline(measured: EvalResult, analysis: Analysis, about: ReportMeta) -> list[tuple[str, str]]:
    voc = measured.voc
    precision, recall, f1 = analysis.overall()
    numbers = [("mAP, 11-point", voc["map_11pt"]), ("mAP, area", voc["map_area"])]
    numbers += [(name, analysis.coco[name]) for name in ("AP", "AP50", "AP75") if name in analysis.coco]
    star = "*" if analysis.thresholds.optimistic(about.split) else ""
    numbers += [(f"precision{star}", precision), (f"recall{star}", recall), (f"F1{star}", f1)]
    numbers += [("mean IoU of hits", analysis.mean_iou)]
    counts = [("images", len(measured.samples)), ("objects", int(voc["positives"].sum()))]
    return [(name, number(value)) for name, value in numbers] + [(name, f"{count:,}") for name, count in counts]


def _warnings(analysis: Analysis, about: ReportMeta) -> str:
    parts = []
    if about.compat:
        parts.append(f"metric.compat={about.compat}: AP as the original counts it, its quirks included.")
    if about.same_images:
        parts.append(f"{about.split} and {about.same_images} are the same images: neither is new to the checkpoint.")
    if analysis.thresholds.optimistic(about.split):
        parts.append(f"* at thresholds that were chosen on {about.split} itself: optimistic.")
    return "".join(f'<p class="bad">{escape(part)}</p>' for part in parts)


def _class_table(measured: EvalResult, analysis: Analysis) -> str:
    voc, (precision, recall, f1) = measured.voc, analysis.rates()
    names = ("class", "objects", "AP 11-point", "AP area", "", "F1", "precision", "recall", "threshold", "mean IoU",
             "right", "false")  # fmt: skip
    rows = [
        [
            text(measured.classes[c]),
            f"{voc['positives'][c]:,}",
            number(voc["ap_11pt"][c]),
            number(voc["ap_area"][c]),
            share_bar(voc["ap_area"][c]),
            number(f1[c]),
            number(precision[c]),
            number(recall[c]),
            _threshold(analysis.thresholds.scores[c]),
            number(voc["iou"][c]),
            f"{analysis.true[c]:,}",
            f"{analysis.false[c]:,}",
        ]
        for c in _ranking(voc["ap_area"])
    ]
    overall_precision, overall_recall, overall_f1 = analysis.overall()
    rows.append(
        ["all", f"{voc['positives'].sum():,}", number(voc["map_11pt"]), number(voc["map_area"]),
         share_bar(voc["map_area"]), number(overall_f1), number(overall_precision), number(overall_recall), "",
         number(analysis.mean_iou), f"{analysis.true.sum():,}", f"{analysis.false.sum():,}"]
    )  # fmt: skip
    return table([Column(name) for name in names], rows, summary=True)


def _threshold(score: float) -> str:
    return f'<span title="{exact(score)}">{rounded_down(score, 4)}</span>'


def _ranking(ap: np.ndarray) -> list[int]:
    """Best first, classes without an AP last."""
    return np.argsort(-np.nan_to_num(ap, nan=-1), kind="stable").tolist()


def _curves(measured: EvalResult) -> str:
    data = curve_data(measured.voc, measured.classes, CURVE_POINTS)
    ranked = sorted(data, key=lambda name: -data[name]["ap_area"])
    half = MOST_NAMED // 2
    named = ranked if len(ranked) <= MOST_NAMED else ranked[:half] + ranked[-half:]
    colors = {name: color(index) for index, name in enumerate(named)}
    lines = [
        Line(
            name,
            np.array([0.0, *data[name]["recall"]]),  # from 0 on, so that a single point is a line too
            np.array([*data[name]["precision"][:1], *data[name]["precision"]] or [np.nan]),
            colors.get(name),
            number(data[name]["ap_area"]),
        )
        for name in ranked
    ]
    return line_chart(lines, Axis("recall", 0, 1), Axis("precision", 0, 1))


def _mistakes(analysis: Analysis) -> str:
    return bars(
        [
            (kind, mistakes.cost, f"{100 * mistakes.cost:.1f} points, {mistakes.count:,} times")
            for kind, mistakes in analysis.mistakes.items()
        ]
    )


def _gallery(measured: EvalResult, analysis: Analysis, about: ReportMeta) -> str:
    shown = min(about.worst_images, len(measured.samples))
    if not shown:
        return ""
    return section(
        "Images, worst first",
        f"{shown} of {len(measured.samples)}. Left the ground truth: <span class='good'>green</span> found, "
        "<span class='bad'>red</span> missed, gray does not count (difficult). Right the detections from each class's "
        "threshold on: <span class='good'>green</span> right, <span class='bad'>red</span> false, gray does not count. "
        "Worst means the lowest F1 of the image, 2·found / (2·found + missed + false); among equals the one with more "
        "mistakes.",
        gallery(measured, analysis, shown),
    )


def _meanings(about: ReportMeta) -> list[tuple[str, str]]:
    return [
        ("AP, mAP", f"Average precision of a class and its mean over the classes that have objects, at IoU "
         f"{'>' if about.compat else '≥'} {about.iou:g}. 11-point: VOC2007's, the mean of the best precision at recall "
         "0, 0.1, … 1. Area: VOC2010's, the area under the curve. The two differ by points; compare like with like."),
        ("AP, AP50, AP75", "COCO's, present when metric.coco=true: mean over IoU .50 to .95, at .50, at .75."),
        ("threshold", "A detection of the class counts from this score on, here rounded down; classes_<split>.csv has "
         "all digits. By default the score at which F1 is highest, on the split that is named: where that is this very "
         "split, the rates are optimistic."),
        ("precision, recall, F1", "Right detections among all detections; objects found among all objects; "
         "2·precision·recall / (precision + recall). In the row \"all\" over all classes together."),
        ("mean IoU", "How well the boxes of found objects fit, at any score."),
        ("difficult objects", "Need not be found; detections on them count neither way."),
        *((f"mistake: {kind}", what) for kind, what in WHAT.items()),
        ("what mistakes cost", "After TIDE (Bolya et al., ECCV 2020): all detections of any score, a box is too far "
         f"off from IoU 0.1 to {about.iou:g}. Kinds do not add up: repairing one changes what another is worth."),
    ]  # fmt: skip
