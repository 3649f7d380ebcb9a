"""Several workers that train one network: cluster=local, slurm or ssh.

    worker 0   the process that the user started: it writes the run directory, validates and logs (coordinator.py)
    members    the other workers, the servers and their scheduler; each holds a TCP connection to worker 0, by which
               either side notices when the other one is gone (worker.py, channel.py)

Gradients are summed by MXNet's parameter servers (ssd/training/distributed.py); every worker then takes the same
optimizer step.
"""
