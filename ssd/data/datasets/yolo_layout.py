"""Where the splits of a YOLO dataset lie when nobody says so: folders and lists of usual names."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ssd.data.coverage import SAME_FILE, TOOL_COPIES
from ssd.data.datasets.listing import Listing, find_folder, holds_image, is_image, passed_over, subfolders
from ssd.data.datasets.split_names import one_each, override, refuse_unknown, shown, split_of
from ssd.data.datasets.yolo_labels import IMAGE_FOLDERS, LABEL_FOLDERS
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

MAX_LIST_BYTES = 1_000_000_000


class UsualPlaces:
    """splits: split -> the folder or list that is named after it. aside: images, and folders of some, that none holds.
    skipped: what was passed over in the folder of images.

    Folders images/train or train/images (or train), lists train.txt; "images" or the root itself, where no split is
    named at all, is train. Folders of images whose names mean no split are refused, for what is in them might be what
    another tool measures with. below: lists a folder (ssd.data.datasets.listing.files_below).
    """

    def __init__(self, root: Path, below: Callable[[Path], Listing]) -> None:
        self.root = root
        self.below = below
        self.splits: dict[str, Path] = {}
        self.aside: list[Path] = []
        images = find_folder(root, IMAGE_FOLDERS)
        self.skipped = {} if images is None else below(images).skipped
        self.images = images if images is not None and self._holds(images) else None
        self._take_folders_of_images()
        self._take_folders_of_root()
        self._take_lists()
        if "train" not in self.splits:
            self._take_all()
        for split, place in self.splits.items():
            self._refuse_inner(split, place)
        if self.images is not None:
            self._name_others()

    def _take_folders_of_images(self) -> None:
        if self.images is None:
            return
        folders = [folder for folder in subfolders(self.images) if self._holds(folder)]
        self.splits = one_each(folders, self.root)
        refuse_unknown([item for item in folders if item not in self.splits.values()], self.root, self.splits)
        if self.splits:
            self.aside += self._directly_in(self.images)

    def _take_folders_of_root(self) -> None:
        folders = [item for item in subfolders(self.root) if item != self.images and self._holds_unless_labels(item)]
        for split, folder in one_each(folders, self.root).items():
            inside = find_folder(folder, IMAGE_FOLDERS)
            place = inside if inside is not None and self._holds(inside) else folder
            if split not in self.splits:
                self.splits[split] = place
            elif self._files(place) != self._files(self.splits[split]):
                self._refuse_two(split, place)
        if self.splits and self.images is None:
            self.aside += [item for item in folders if split_of(item.name) is None]

    def _name_others(self) -> None:
        """Images beside the folder of images."""
        places = [place for place in self.splits.values() if place.is_dir()]
        files = set().union(*map(self._files, places))
        for folder in subfolders(self.root):
            start = os.path.realpath(folder) + os.sep  # links may lead there
            held = folder == self.images or any(file.startswith(start) for file in files)
            if not held and folder.name.lower() not in LABEL_FOLDERS and holds_image(folder):
                self.aside.append(folder)
        self.aside += [self.root / name for name in sorted(os.listdir(self.root)) if is_image(Path(name))]

    def _take_lists(self) -> None:
        """Lists count where no folder is named after their split; where one is, both must hold the same."""
        files = sorted(path for path in self.root.glob("*.txt") if split_of(path.stem) and is_list(path))
        listed: set[str] = set()
        for split, file in one_each(files, self.root).items():
            members = set(listed_in(file, self.root).files.values())
            folder = self.splits.get(split)
            if folder is None:
                self.splits[split] = file
                listed |= members
            elif not any(map(os.path.exists, members)):
                self.aside.append(file)  # of another machine, or of another copy
            elif members != self._files(folder):
                self._refuse_two(split, file)
        if listed and self.splits["train"].is_file() and self.images is not None:
            held = listed.union(*(self._files(place) for place in self.splits.values() if place.is_dir()))
            self.aside += [path for path, file in self.below(self.images).images().items() if file not in held]

    def _take_all(self) -> None:
        base = self.images or self.root
        if not self._directly_in(base) and self.images is not None:
            return
        inner = {split: place for split, place in self.splits.items() if place.is_relative_to(base) and place.is_dir()}
        folders = [item for item in subfolders(base) if self._holds_unless_labels(item)]
        refuse_unknown([item for item in folders if item not in inner.values() and split_of(item.name) is None],
                       self.root, inner)  # fmt: skip
        if inner and self._directly_in(base):
            names = ", ".join(shown(place, self.root) for place in inner.values())
            raise UserError(
                f"{self.root}: images lie beside {names}, which are named after splits; move those to train on into "
                f"{shown(base / 'train', self.root)}, or list them in a file: {override('train', ['train.txt'])}"
            )
        if self._directly_in(base):
            self.splits["train"] = base

    def _refuse_two(self, split: str, place: Path) -> None:
        names = [shown(self.splits[split], self.root), shown(place, self.root)]
        raise UserError(
            f"{self.root}: {' and '.join(names)} hold different images, and both are named after the {split} split; "
            f"say which to use: {' or '.join(override(split, [name]) for name in names)}"
        )

    def _refuse_inner(self, split: str, place: Path) -> None:
        if not place.is_dir():
            return
        for path in self.below(place).images():
            for folder in path.relative_to(place).parents:
                if split_of(folder.name) not in (None, split):
                    whole, inner = shown(place, self.root), shown(place / folder, self.root)
                    raise UserError(
                        f"{self.root}: {inner} lies in {whole}, the {split} split, and is named after another one; "
                        f"say that it belongs there: {override(split, [whole])}"
                    )

    def _files(self, folder: Path) -> set[str]:
        return set(self.below(folder).images().values())

    def _holds(self, folder: Path) -> bool:
        return any(map(is_image, self.below(folder).files))

    def _holds_unless_labels(self, folder: Path) -> bool:
        if folder.name.lower() in LABEL_FOLDERS or (self.images is not None and split_of(folder.name) is None):
            return False
        return self._holds(folder)

    def _directly_in(self, folder: Path) -> list[Path]:
        return [path for path in self.below(folder).files if path.parent == folder and is_image(path)]


def is_list(file: Path) -> bool:
    """Whether a text file lists images, rather than labels of an image that is called "train"."""
    first = next((line.strip() for line in _lines(file) if line.strip()), "")
    return is_image(Path(first))


def listed_in(file: Path, folder: Path) -> Listing:
    """Images that a text file lists, one path per line, relative to the file or to the folder of the dataset.

    They stay in the order of the list. Paths that are written from elsewhere (data/obj_train_data/a.jpg,
    C:\\me\\images\\a.jpg) count without their first folders where the image is then there.
    """
    listing = Listing()
    places = [str(file.parent), str(folder)]
    folders: dict[str, str] = {}  # with links resolved
    far = ""  # the first folders that are not here
    for line in _lines(file):
        name = line.strip()
        if not name:
            continue
        found = _located(name, places)
        if found is None:
            name = name.replace("\\", "/")
            if not far or not name.startswith(far):
                far = _first_folders(name, places)
            found = _located(name.removeprefix(far), places) or os.path.join(folder, name)
        path = Path(found)
        if any(passed_over(part) == TOOL_COPIES for part in name.split("/")):
            listing.skip(TOOL_COPIES, path)
        elif path in listing.files:
            listing.skip(SAME_FILE, path)
        else:
            place, base = os.path.split(path)
            if place not in folders:
                folders[place] = os.path.realpath(place)
            listing.files[path] = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[place], base)
    return listing


def _located(name: str, places: Sequence[str]) -> str | None:
    whole = (os.path.join(place, name) for place in places)
    return next((path for path in whole if os.path.exists(path)), None)


def _first_folders(name: str, places: Sequence[str]) -> str:
    parts = name.split("/")
    for count in range(1, len(parts)):
        rest = "/".join(parts[count:])
        if rest and _located(rest, places):
            return name.removesuffix(rest)
    return ""


def _lines(file: Path) -> list[str]:
    return read_text(file, MAX_LIST_BYTES, "a list of images").splitlines()
