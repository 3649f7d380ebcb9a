"""What becomes of the frames of a demo: each sink is a block that yields a function to call with every frame.

Whatever a sink writes has its name only when the block ended well. Frames are written as they come and not kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.detection.sources import Frame

Add = Callable[[Frame, np.ndarray], None]  # frame, detections [N, 6] (class, score, corners in its pixels)


@dataclass(frozen=True)
class Header:
    """What the numbers of a result mean: the model they come from, its class names in order, their numbers in the
    dataset it was trained on if that has any, and the lowest score written (by class name where they differ)."""

    model: str
    classes: list[str]
    category_ids: list[int] | None
    threshold: Any
