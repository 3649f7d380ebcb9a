"""The processor cores this process may run on."""

import os


def cores_by_thread() -> list[list[int]]:
    """Usable CPU numbers, those of one physical core (hyper-threads) together (elsewhere than on Linux: each alone)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores: dict[str, list[int]] = {}
    for cpu in sorted(allowed):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                name = file.read().strip()
        except OSError:
            name = str(cpu)
        cores.setdefault(name, []).append(cpu)
    return list(cores.values())


def physical_cores() -> int:
    """Cores this process may run on, hyper-threads counted once."""
    return max(1, len(cores_by_thread()))


def usable_cores() -> int:
    """Logical cores this process may run on."""
    return max(1, sum(len(core) for core in cores_by_thread()))
