"""Annotations to samples, samples to records, records to batches."""

from ssd.data.dataset import Dataset, Sample, make_dataset

__all__ = ["Dataset", "Sample", "make_dataset"]
