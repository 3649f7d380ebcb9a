"""Starting another process of a cluster, on this machine or by ssh."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from typing import Any

from ssd.config import credentials
from ssd.launch.plan import Node, Plan
from ssd.utils.errors import UserError

MODULE = "ssd.jobs.worker_process"


def bootstrap(plan: Plan, node: Node) -> dict[str, Any]:
    """What a member must know to connect."""
    where = {"address": plan.address, "port": plan.port, "secret": plan.secret.facts}
    return {**where, "role": node.role, "rank": node.rank}


def start_member(node: Node, facts: dict[str, Any], ssh: str | None) -> "subprocess.Popen[bytes]":
    """Starts a process here or on node.host; facts reach it by its standard input, where nobody else reads them."""
    command = [sys.executable, "-m", MODULE]
    path = os.pathsep.join(filter(None, sys.path))  # modules are found where this process found them
    if node.host is not None:
        remote = ["env", f"PYTHONPATH={path}", *command]
        command = [*shlex.split(ssh or "ssh"), node.host, f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(remote)}"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=credentials.environment() | {"PYTHONPATH": path})
    except OSError as error:
        raise UserError(f"cluster.ssh={ssh}: {command[0]} cannot be started ({error.strerror})") from error
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code tells
        process.stdin.write(json.dumps(facts).encode() + b"\n")
        process.stdin.flush()
    return process
