"""Record files in the format of MXNet: reading, writing, and the cache of what was written."""
