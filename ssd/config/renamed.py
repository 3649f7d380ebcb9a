"""Names of earlier versions and what they are called today; applied wherever a saved run is read."""

import re
from typing import Any

TARGET = "_target_"

# Classes and functions that a configuration may name.
TARGETS = {
    "ssd.data.coco.COCO": "ssd.data.datasets.coco.COCO",
    "ssd.data.csv_table.CSV": "ssd.data.datasets.csv_table.CSV",
    "ssd.data.parts.Concat": "ssd.data.datasets.concat.Concat",
    "ssd.data.rec.Rec": "ssd.data.datasets.rec.Rec",
    "ssd.data.shapes.Shapes": "ssd.data.datasets.shapes.Shapes",
    "ssd.data.voc.VOC": "ssd.data.datasets.voc.VOC",
    "ssd.data.yolo.YOLO": "ssd.data.datasets.yolo.YOLO",
    "ssd.tracking.mlflow.MLflow": "ssd.tracking.mlflow.writer.MLflow",
}
WRITTEN = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, TARGETS)) + r")(?![\w.])")


def current_config(node: Any) -> Any:
    """A saved configuration, plain data, with the names of today."""
    if isinstance(node, dict):
        return {
            key: TARGETS.get(value, value) if key == TARGET and isinstance(value, str) else current_config(value)
            for key, value in node.items()
        }
    return [current_config(item) for item in node] if isinstance(node, list) else node


def current_override(override: str) -> str:
    """An override as somebody typed it, with the names of today."""
    return WRITTEN.sub(lambda found: TARGETS[found[1]], override) if TARGET in override else override
