"""Keep a second make out of a folder that one works in.

    python tools/alone.py FOLDER PID        # the process in whose name FOLDER is taken: make

The folder is free again once that process has ended, however it ended.
"""

import fcntl
import subprocess
import sys
from pathlib import Path


def main(folder, pid):
    """Take the folder for a process; return who has it, if another does."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "taken", "a+") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        taken.seek(0)
        owner, _, started = taken.read().strip().partition(" ")
        if owner and owner != pid and started and started == _started(owner):
            return f"another make, process {owner}, works in {folder}: wait until it has ended, or stop it"
        taken.truncate(0)
        taken.write(f"{pid} {_started(pid)}\n")
    return None


def _started(pid):
    """Return when a process started, which with its number names it for good; nothing, if it has ended."""
    if Path("/proc/self/stat").exists():
        stat = Path("/proc", pid, "stat")
        state, *rest = stat.read_text().rpartition(")")[2].split() if stat.exists() else "Z"
        return "" if state == "Z" else rest[18]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", pid], capture_output=True, text=True)
    return " ".join(shown.stdout.split())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
