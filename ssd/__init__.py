"""Single Shot MultiBox Detector on Apache MXNet: experiments by configuration."""
