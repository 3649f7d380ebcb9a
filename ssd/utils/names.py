"""Names that people chose (classes, datasets, studies) made into names of files, folders and curves.

Two names never become one: where cleaning makes them alike, also to file systems that do not tell capitals, each keeps
apart by eight digits of its hash, whatever the others are and in whatever order they come.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence

MAX_BYTES = 100  # of a name; file systems take 255, and something is put before and after it
HASH_DIGITS = 8


def file_name(text: str) -> str:
    """One part of a path, of letters, digits, and _ - . space + =: never empty, "." or "..", nor hidden."""
    return distinct([text])[0]


def _for_files(text: str) -> str:
    return re.sub(r"[^\w\-.+= ]", "_", text).strip(" ")


def distinct(names: Sequence[str], clean: Callable[[str], str] = _for_files) -> list[str]:
    """One clean name for each of several different names, at most MAX_BYTES long in UTF-8.

    clean: replaces what is not allowed. A name that needs no change keeps it, unless another becomes the same.
    """
    cleaned = [clean(name) for name in names]
    counts = Counter(text.casefold() for text in cleaned)
    kept = Counter(name.casefold() for name, text in zip(names, cleaned, strict=True) if name == text)
    found = []
    for name, text in zip(names, cleaned, strict=True):
        folded = text.casefold()
        alone = counts[folded] == 1 or (name == text and kept[folded] == 1)
        usable = text.strip(".") and not text.startswith(".") and len(text.encode()) <= MAX_BYTES
        found.append(text if alone and usable else _marked(name, text))
    return found


def _marked(name: str, text: str) -> str:
    digits = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
    room = MAX_BYTES - HASH_DIGITS - 1
    return f"{text.lstrip('.').encode()[:room].decode(errors='ignore')}-{digits}".lstrip("-")


class Tags:
    """Tags of a run as a writer accepts them; those of classes (val/ap_11pt/<class>) stay apart.

    clean: makes a tag acceptable, and keeps "/".
    """

    OF_CLASSES = re.compile(r"((?:\w+/)?(?:ap_11pt|ap_area|pr)/)(.+)", re.DOTALL)

    def __init__(self, classes: Sequence[str], clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._names = dict(zip(classes, distinct(classes, clean), strict=True))

    def __call__(self, tag: str) -> str:
        match = self.OF_CLASSES.fullmatch(tag)
        if match and match[2] in self._names:
            return f"{self._clean(match[1]).rstrip('/')}/{self._names[match[2]]}"
        return self._clean(tag)
