"""Which files of a split were looked for and not found, or found and not used.

Readers of a format collect it while they list their files; nothing that a user would expect to count is silent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

HIDDEN = "hidden files and folders"  # reasons of `skipped`, as a report names them
TOOL_COPIES = "copies that tools leave (@eaDir, ._*, .ipynb_checkpoints, __MACOSX)"
UNLISTED = "images that no annotation lists"
UNNAMED = "records that the .lst does not name"
UNREAD_FORMATS = "images of formats that are not read"
BROKEN_LINKS = "links that lead nowhere"
LOOPS = "links that lead back to a folder they lie in"
LOST_LINKS = "text files that were links before they were copied"
SAME_FILE = "further names of an image that counts once"
SECOND_LABELS = "label files of an image that has another one"
SECOND_IMAGES = "images whose name an annotation has that is of another image"
IN_NO_LIST = "annotated images that no list names"
NO_SPLIT = "images that belong to no split"
OTHER_CLASSES = "images without an object of dataset.classes, dataset.keep_empty=true keeps them"
HARMLESS = (HIDDEN, TOOL_COPIES, SAME_FILE, OTHER_CLASSES)  # reasons that call for nothing


@dataclass(frozen=True)
class Coverage:
    """Paths are text, relative to dataset.root where they lie below it, in a sorted order.

    unlabeled: images without a label file. Those of YOLO are in the split, as images without objects; those of a VOC
    folder without lists are not, for there the annotations say which images there are. A format whose annotation lists
    the images (VOC with ImageSets, COCO, CSV, rec) has none.
    orphans: label files or entries that belong to no image of any split.
    searched: where the label file of the first unlabeled image was looked for.
    skipped: reason -> files and folders that were passed over.
    """

    unlabeled: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __add__(self, other: "Coverage") -> "Coverage":
        """Both together: of the parts of a concatenation."""
        reasons = [*self.skipped, *(reason for reason in other.skipped if reason not in self.skipped)]
        return Coverage(
            self.unlabeled + other.unlabeled,
            self.orphans + other.orphans,
            self.searched or other.searched,
            {reason: (*self.skipped.get(reason, ()), *other.skipped.get(reason, ())) for reason in reasons},
        )
