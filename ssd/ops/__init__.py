"""Arithmetic of boxes on numpy arrays: conversions, overlap, non-maximum suppression."""
