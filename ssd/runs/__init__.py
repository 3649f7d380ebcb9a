"""Run directories that exist: what was saved in them, resuming and repeating them."""
