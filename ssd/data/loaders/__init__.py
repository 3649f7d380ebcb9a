"""Records to batches: worker processes, the batch builder, the iterator of MXNet."""
