"""The key of a run: what its processes prove to know.

Worker 0 makes it and hands it to the processes that it starts. The tasks of a Slurm job are started by others: they
know it from SSD_CLUSTER_KEY, or find it in a file that task 0 leaves in a folder they share, for their user alone.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.utils.errors import UserError

KEY = "SSD_CLUSTER_KEY"  # environment variable
LENGTH = 64  # characters
FORM = re.compile(rb"[0-9a-f]{%d}\n" % LENGTH)
ADVICE = f"share the folder with all tasks (cluster.folder), or give them the same random {KEY}"


@dataclass(frozen=True)
class Secret:
    """key: None where it is in a file, whose folder need not be there before."""

    key: str | None
    file: Path | None = None

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Secret":
        return cls(facts["key"], facts["file"] and Path(facts["file"]))

    @property
    def facts(self) -> dict[str, Any]:
        return {"key": self.key, "file": self.file and str(self.file)}

    def publish(self) -> str:
        """Worker 0: the key, which is in the file from now on. Errors: UserError when it cannot be."""
        if self.key is not None:
            return self.key
        assert self.file
        key = secrets.token_hex(LENGTH // 2)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.unlink(missing_ok=True)  # of a task 0 of the same name that was killed
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.file, flags, 0o600), "wb") as opened:
                opened.write(f"{key}\n".encode())
            self.current()  # or the folder does not keep modes
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.file}: the key of the run cannot be left there ({reason}); {ADVICE}") from error
        return key

    def withdraw(self, key: str) -> None:
        """Worker 0: removes the file, if it is still the one of this key."""
        with contextlib.suppress(OSError, UserError):
            if self.file and self.current() == key:
                self.file.unlink()

    def current(self) -> str:
        """The key. That of a file may change: what an earlier task 0 left is replaced by the present one.

        Errors: FileNotFoundError when the file is not there yet; UserError when it is not this user's alone.
        """
        if self.key is not None:
            return self.key
        assert self.file
        # Over NFS a file that was looked for in vain stays so, until its folder is opened.
        os.close(os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY))
        try:
            handle = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise UserError(f"{self.file}: is a link, so it is not trusted with the key of the run") from error
        with os.fdopen(handle, "rb", buffering=0) as opened:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                raise UserError(f"{self.file}: is no plain file, so it is not trusted with the key of the run")
            if state.st_uid != os.geteuid():
                raise UserError(
                    f"{self.file}: belongs to user {state.st_uid}, so user {os.geteuid()} does not trust it with the "
                    f"key of the run; remove it, or {ADVICE}"
                )
            if state.st_mode & 0o077:
                mode = stat.S_IMODE(state.st_mode)
                raise UserError(f"{self.file}: has mode {mode:o}, others may read the key of the run; {ADVICE}")
            text = opened.read(LENGTH + 2)
        if not FORM.fullmatch(text):  # being written
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.file))
        return text.decode().strip()
