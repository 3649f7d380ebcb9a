"""Log lines that get along with a progress bar."""

import logging
import sys
from typing import TextIO


class StderrHandler(logging.StreamHandler):
    """Writes to whatever sys.stderr is now, so that a live progress bar can put the lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr
