"""Annotation formats to samples: one file per format, and what they share."""
