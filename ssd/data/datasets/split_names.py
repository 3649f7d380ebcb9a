"""Which split a folder or list of a usual name holds: train2017, Validation, obj_valid_data, test_images."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssd.utils.errors import UserError

ALIASES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
_SPLITS = {alias: split for split, aliases in ALIASES.items() for alias in aliases}
# The frame of CVAT (obj_train_data), "images_train", "train_set", "train2017", "val-2014".
_NAME = re.compile(
    rf"(?:(?:obj|images?|imgs?)[_-])?({'|'.join(_SPLITS)})"
    r"(?:[_ -]?(?:data|images?|imgs?|set|split))?(?:[_-]?(?:19|20)\d\d)?"
)


def split_of(name: str) -> str | None:
    """The split that a name means, in any case; None for any other name, however alike."""
    found = _NAME.fullmatch(name.lower())
    return _SPLITS[found.group(1)] if found else None


def one_each(places: Sequence[Path], root: Path) -> dict[str, Path]:
    """split -> the folder or list that is named after it; UserError when two mean the same split.

    root: the messages name the places from there. Places of other names are left out.
    """
    found: dict[str, list[Path]] = {}
    for place in places:
        split = split_of(place.stem if place.suffix else place.name)
        if split is not None:
            found.setdefault(split, []).append(place)
    for split, several in found.items():
        if len(several) > 1:
            names = [shown(place, root) for place in several]
            raise UserError(
                f"{root}: {' and '.join(names)} all are named after the {split} split; "
                f"say which to use: {override(split, names)}"
            )
    return {split: several[0] for split, several in found.items()}


def refuse_unknown(folders: Sequence[Path], root: Path, known: Mapping[str, Path]) -> None:
    """UserError for folders of images that no split is named after: which are to train on is the user's to say."""
    if not folders:
        return
    names = [shown(folder, root) for folder in folders]
    train = [shown(known["train"], root)] if "train" in known else names
    beside = f" (beside {', '.join(shown(place, root) for place in known.values())})" if known else ""
    raise UserError(
        f"{root}: the folders of images {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}{beside} are not "
        f"named after a split (train, val, test); say which are to train on: {override('train', train)}, and with "
        "dataset.splits.val which to validate on (without it a part of train is held out)"
    )


def override(split: str, names: Sequence[str]) -> str:
    """How the command line names the places of a split, ready to be pasted into a shell."""
    plain = re.compile(r"(?!(?:null|true|false|inf|nan)$)[A-Za-z_][A-Za-z0-9_./-]*", re.IGNORECASE)
    entries = [name if plain.fullmatch(name) else '"' + name.replace('"', r"\"") + '"' for name in names]
    return shlex.quote(f"dataset.splits.{split}=[{','.join(entries)}]")


def shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
