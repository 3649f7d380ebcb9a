"""Sweeps: many runs from one command line.

Hydra's sweeper says which, its launcher where and how many at once. Each job is a process of its own (`job`, `child`)
with its share of the machine (`share`), and leaves job.json (`outcome`); the leaderboard is made from these files.
"""
