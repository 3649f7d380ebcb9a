"""Versions of this program and of what its numbers depend on. Imports none of it."""

import importlib.metadata

from ssd import __version__

# Distributions that bring the module mxnet: an installation has one of them.
ENGINES = ("mxnet", "mxnet-cu112", "mxnet-cu102", "mxnet-cu101")


def installed(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_line() -> str:
    """For --version: "ssd 0.2.0 (MXNet 1.9.1, Hydra 1.3.6)"."""
    engine = next((version for name in ENGINES if (version := installed(name))), "not installed")
    return f"ssd {__version__} (MXNet {engine}, Hydra {installed('hydra-core')})"
