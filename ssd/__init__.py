"""Single Shot MultiBox Detector on Apache MXNet: experiments by configuration."""

__version__ = "0.2.0"  # the only place; setup.cfg reads it
