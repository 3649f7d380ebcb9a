"""Regular expressions that somebody configured: compiled only if no text can keep them busy for long.

Python's matcher tries one alternative after the other. Where two of them can begin with the same character, a text that
matches in the end nowhere is tried in every combination: (a+)+b takes 2^n steps over n letters a. The number of
combinations is therefore bounded from the parsed expression before it is used.
"""

import importlib
import math
import re
import sys
from collections.abc import Sequence, Set
from functools import lru_cache
from itertools import combinations
from typing import Any

from ssd.utils.errors import UserError

LONGEST = 500  # characters of an expression
SHOWN = 200  # of them in a message
NAME = 100  # characters of the text: what a repetition without an upper limit counts for
MOST = 3 * math.log(NAME)  # of the logarithm of the combinations: three repetitions in a row that may share text
# Characters: those of Latin-1, and one for all others of a kind: white space, letters, digits, the rest.
CHARACTERS = "".join(map(chr, range(256))) + "\u2003Ā\u0663→"
FOLDED = 0x212B  # the last character whose other case may be one of Latin-1
EVERY = frozenset(range(len(CHARACTERS)))
CATEGORIES = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}
REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")

# Python's own reader of expressions, which has moved with 3.11.
_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")


def compiled(text: str, key: str) -> re.Pattern[str]:
    """The expression that a key of the configuration holds.

    Errors: UserError naming the key for one that is none, is longer than LONGEST characters, or could match a text in
    too many ways.
    """
    said = f"{key}={text[:SHOWN]}"
    if len(text) > LONGEST:
        raise UserError(f"{said}…: expected a regular expression of at most {LONGEST} characters, it has {len(text)}")
    try:
        pattern, tree = re.compile(text), _parser.parse(text)
        ways = _ways(tree, frozenset())
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{said}: not a regular expression ({reason})") from error
    if ways > MOST:
        raise UserError(
            f"{said}: its repetitions or alternatives can share the same text in too many ways, so that matching may "
            "take hours; let them exclude each other, as in ([^_]+_)+, or leave some of them out"
        )
    return pattern


def _ways(items: Sequence[Any], follow: Set[int]) -> float:
    """Logarithm of how many combinations of choices are tried at most. follow: places in CHARACTERS of what may come
    next; none where the whole has matched.

    A choice is free if more than one of its alternatives can begin with the next character; all others cost nothing.
    """
    total = 0.0
    for operation, value in reversed(items):
        total += _choice(str(operation), value, follow)
        first, empty = _starts([(operation, value)])
        follow = first | follow if empty else first
    return total


def _choice(operation: str, value: Any, follow: Set[int]) -> float:
    if operation in REPEATS:
        least, most, body = value
        first, _ = _starts(body)
        least, most = int(least), int(most)
        free = bool(first & follow) and most > least
        inner = min(most, NAME) * _ways(body, first | follow if most > 1 else follow)
        return inner + (math.log(min(most - least, NAME - 1) + 1) if free else 0.0)
    branches = _branches(operation, value)
    starts = [first | (follow if empty else frozenset()) for first, empty in map(_starts, branches)]
    free = any(one & other for one, other in combinations(starts, 2))
    if operation in ("ASSERT", "ASSERT_NOT"):
        follow = frozenset()
    return sum(_ways(branch, follow) for branch in branches) + (math.log(len(branches)) if free else 0.0)


def _branches(operation: str, value: Any) -> list[Any]:
    """The sequences of which an item is one."""
    if operation == "BRANCH":
        return list(value[1])
    if operation == "GROUPREF_EXISTS":
        return [value[1], value[2] or []]
    if operation == "SUBPATTERN":
        return [value[-1]]
    if operation in ("ASSERT", "ASSERT_NOT"):
        return [value[1]]
    return [value] if operation == "ATOMIC_GROUP" else []


def _starts(items: Sequence[Any]) -> tuple[frozenset[int], bool]:
    """The characters with which a sequence can begin, and whether it can be empty."""
    found: frozenset[int] = frozenset()
    for operation, value in items:
        first, empty = _start(str(operation), value)
        found |= first
        if not empty:
            return found, False
    return found, True


def _start(operation: str, value: Any) -> tuple[frozenset[int], bool]:
    if operation in REPEATS:
        first, empty = _starts(value[2])
        return first, empty or value[0] == 0
    if operation in ("AT", "ASSERT", "ASSERT_NOT"):
        return frozenset(), True
    if operation == "GROUPREF":
        return EVERY, True
    if branches := _branches(operation, value):
        starts = [_starts(branch) for branch in branches]
        return frozenset[int]().union(*(first for first, _ in starts)), any(empty for _, empty in starts)
    return _characters(operation, value), False


def _characters(operation: str, value: Any, surely: bool = False) -> frozenset[int]:
    """What one item matches: places in CHARACTERS. surely: under any flags; else under some."""
    if operation == "LITERAL":
        return _range(value, value, surely)
    if operation == "RANGE":
        return _range(*value, surely)
    if operation == "CATEGORY":
        return _category(str(value), surely)
    if operation == "IN":
        negated = str(value[0][0]) == "NEGATE"
        listed = (_characters(str(kind), one, negated != surely) for kind, one in value[negated:])
        inside = frozenset[int]().union(*listed)
        return EVERY - inside if negated else inside
    if operation == "NOT_LITERAL":
        return EVERY - _range(value, value, not surely)
    return EVERY


@lru_cache(maxsize=1000)
def _range(low: int, high: int, surely: bool) -> frozenset[int]:
    """Of the characters from low to high; of letters either case, which flags may ask for."""
    if surely:
        return frozenset(range(low, min(high, 255) + 1))
    if high > low and high > FOLDED:
        return _range(low, FOLDED, False) | EVERY - frozenset(range(256)) if low <= FOLDED else EVERY
    letters = map(chr, range(low, high + 1))
    return frozenset(map(_code, {one for letter in letters for one in letter + letter.lower() + letter.upper()}))


def _code(character: str) -> int:
    """The place in CHARACTERS of what stands for a character."""
    if ord(character) < 256:
        return ord(character)
    kinds = (character.isspace(), character.isalnum() and not character.isdecimal(), character.isdecimal(), True)
    return 256 + kinds.index(True)


@lru_cache
def _category(name: str, surely: bool) -> frozenset[int]:
    kind = CATEGORIES[name.replace("_NOT_", "_")]
    wide, narrow = (
        frozenset(map(CHARACTERS.index, re.findall(kind, CHARACTERS, flags))) for flags in (re.UNICODE, re.ASCII)
    )
    if "_NOT_" in name:
        return EVERY - wide if surely else EVERY - narrow
    return narrow if surely else wide
