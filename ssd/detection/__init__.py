"""Finding objects in images: the detector on arrays, what it reads from, and what it draws and writes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd.detection.detector import Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    """Import the detector, and with it MXNet, only when it is asked for: drawing and decoding need neither."""
    if name == "Detector":
        from ssd.detection.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
