"""Who makes which part of every batch, where several workers share the work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Worker `rank` of `workers`; all shares together are the batch that one worker alone would make."""

    rank: int = 0
    workers: int = 1

    def of(self, size: int) -> range:
        """The places of a batch of `size` pictures that are this worker's."""
        return range(self.rank * size // self.workers, (self.rank + 1) * size // self.workers)
