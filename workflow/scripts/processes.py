"""What the parts of a workflow share: who belongs to which workflow, who is alive, where they meet."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

WORKFLOW_PID = "BEVKD_WORKFLOW_PID"
WARM = "BEVKD_WARM"  # "1" in the jobs of the main process of a workflow; "0" set by the user switches it off
LENGTH = 8  # bytes of the number that says how long a request is
_PATH_LIMIT = 100  # bytes; the kernel takes 107


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended but was not waited for (a zombie) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # not Linux, or it ended just now
        return not Path("/proc/self/stat").exists()


def folder() -> Path:
    """A folder for sockets that belongs to this user alone.

    Raises:
        OSError: somebody else made it, or may look into it.
    """
    path = Path(tempfile.gettempdir()) / f"bevkd-warm-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or path.is_symlink():
        raise OSError(f"{path} is not private")
    return path


def socket_path(workflow: int) -> Path:
    """Socket of the server of one workflow, interpreter and code base.

    Raises:
        OSError: as `folder`; or the path is too long for a socket.
    """
    # Containers may share a temporary folder and number their processes alike.
    space = Path("/proc/self/ns/pid")
    parts = [sys.executable, os.getcwd(), os.uname().nodename, str(space.stat().st_ino if space.exists() else 0)]
    path = folder() / f"{workflow}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}.sock"
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise OSError(f"{path} is too long for a socket")
    return path
