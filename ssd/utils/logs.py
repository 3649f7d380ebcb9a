"""Log lines that get along with a progress bar and with any name in them."""

import logging
import sys
from typing import TextIO

# What ends a line, or is an instruction to a terminal: names out of files may hold anything.
CONTROLS = {code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code != 9}


def one_line(text: str) -> str:
    """Without line breaks and other control characters, which names of files and classes may have: escaped as Python
    writes them. So a message is one line, and does nothing to a terminal."""
    return text.translate(CONTROLS)


class OneLine(logging.Formatter):
    """Messages as one line each; the traceback of an exception below stays as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of logging
        return one_line(super().formatMessage(record))


class StderrHandler(logging.StreamHandler):
    """Writes to whatever sys.stderr is now, so that a live progress bar can put the lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr
