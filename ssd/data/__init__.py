"""Annotations to samples, samples to records, records to batches."""

from ssd.data.base import Dataset, Sample
from ssd.data.datasets.build import make_dataset

__all__ = ["Dataset", "Sample", "make_dataset"]
