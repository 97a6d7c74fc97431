"""A run's claim on its output folder: no two runs write there at once, be they on one machine or on several.

    output/.lock               held (flock) while a run lives; the kernel lets go of it even after kill -9
    output/_work/<run>.alive   touched every few seconds while a run lives; says on which machine that is

Among processes of one machine the lock is exact. Not every shared file system passes it on to other machines, so a run
shows signs of life as well, and one from elsewhere that has shown none for so long counts as dead. Ages are differences
between times that the file system gave, so machines may disagree about the time of day. Where two runs on different
machines start at the same moment, both may leave.
"""

import contextlib
import fcntl
import os
import platform
import threading
from pathlib import Path
from typing import IO

from schemas.errors import OutputError
from schemas.files import write_atomically

WORK = "_work"
ALIVE = ".alive"
SIGN_SECONDS = 10.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Claim:
    """What a run holds between `take` and `release`. dead: runs that left a sign of life, and are over all the same."""

    def __init__(self, root: Path, run: str, abandoned_after: float) -> None:
        self.dead: set[str] = set()
        self._root, self._abandoned_after = root, abandoned_after
        self._alive = root / WORK / f"{run}{ALIVE}"
        self._lock: IO[str] | None = None
        self._leaving = threading.Event()
        self._since = 0.0

    def take(self) -> None:
        """Claims the folder, which is there.

        Raises:
          OutputError: another run holds it.
        """
        self._lock = (self._root / ".lock").open("w")
        exact = self._locked(self._lock)
        write_atomically(self._alive, machine().encode())
        self._since = self._alive.stat().st_mtime
        threading.Thread(target=self._show_life, daemon=True, name="claim").start()
        for other in self._alive.parent.glob(f"*{ALIVE}"):
            if other != self._alive:
                self._check_dead(other, exact)
                self.dead.add(other.name.removesuffix(ALIVE))

    def is_over(self, run: str, path: Path) -> bool:
        """Whether a file or folder of some run may be removed: its run is known to be dead, or it is old enough.

        A young one may be of a run whose sign of life cannot be seen yet, or of an attempt that outlives its run.
        """
        return run in self.dead or self._age(path) > self._abandoned_after

    def check_held(self) -> None:
        """Raises an OutputError where another run has taken this one for dead."""
        if not self._alive.exists():
            raise OutputError(
                f"another run took {self._root} over, as this one had shown no sign of life for "
                f"{self._abandoned_after:.0f} s; start it anew once that run has ended, or raise output.abandoned_after"
            )

    def withdraw(self) -> None:
        """Takes the sign of life away; the lock stays until `release`, so that the folder can be tidied under it."""
        self._leaving.set()
        if self._since:
            self._alive.unlink(missing_ok=True)

    def release(self) -> None:
        """Gives the folder back."""
        self.withdraw()
        if self._lock is not None:
            self._lock.close()

    def _locked(self, lock: IO[str]) -> bool:
        """Whether this file system knows locks; an OutputError where another process has this one."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another run holds {self._root}; wait for it to end, or choose another output.path"
            raise OutputError(message) from error
        except OSError:
            return False
        if not os.fstat(lock.fileno()).st_nlink:  # the run that made it was on its way out
            raise OutputError(f"another run was leaving {self._root} just now; start once more")
        return True

    def _check_dead(self, other: Path, exact: bool) -> None:
        """Raises an OutputError unless the run of a sign of life is over: of this machine by the lock, else by age."""
        try:
            where = other.read_text(encoding="utf-8")
        except OSError:
            return  # it has just been taken away
        age = self._age(other)
        if not (exact and where == machine()) and age <= self._abandoned_after:
            raise OutputError(
                f"run {other.name.removesuffix(ALIVE)} on {where.partition(' ')[0]} holds {self._root} and showed life "
                f"{max(age, 0):.0f} s ago; wait for it to end, or, if it is dead, until that is "
                f"{self._abandoned_after:.0f} s (output.abandoned_after)"
            )

    def _age(self, path: Path) -> float:
        """Seconds between a path's last change and the taking of this claim, by the file system's clock."""
        try:
            return self._since - path.stat().st_mtime
        except OSError:
            return 0.0

    def _show_life(self) -> None:
        while not self._leaving.wait(SIGN_SECONDS):
            with contextlib.suppress(OSError):  # taken over: `check_held` tells; a server that hangs: later again
                os.utime(self._alive)


def machine() -> str:
    """The machine's name and, where there is one, the mark of this boot of it: so far does a lock surely reach."""
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{platform.node()} {boot}"
