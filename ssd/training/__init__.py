"""Training: the loop, one step of a bound Module, optimizers and schedules, guards, and several workers as one."""
