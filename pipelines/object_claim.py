"""A run's signs of life on an object store, where nothing can be locked.

    output/_work/<run>.alive   written again every few seconds while a run lives; says on which machine that is

They spare runs from working side by side, and runs that live from having their files cleaned away; which of two runs
publishes is decided by the conditional write of the manifest alone (see `object_publication`). Ages are differences
between times that the store gave, so machines may disagree about the time of day.
"""

import contextlib
import os
import threading
from pathlib import Path

from pipelines.claim import ALIVE, SIGN_SECONDS, WORK, machine
from schemas.errors import OutputError
from schemas.remote import RemoteFolder
from schemas.storage import Stored

_ARRIVES, _STAYS = "arrives", "stays"


class ObjectClaim:
    """What a run shows between `take` and `withdraw`. work: its folder on a disk, kept from looking abandoned too."""

    def __init__(self, folder: RemoteFolder, run: str, abandoned_after: float, work: Path) -> None:
        self.dead: set[str] = set()
        self.live: set[str] = set()
        self._folder, self._run, self._abandoned_after, self._work = folder, run, abandoned_after, work
        self._sign = f"{WORK}/{run}{ALIVE}"
        self._version: str | None = None
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = 0.0

    def take(self) -> None:
        """Shows that this run is there.

        Raises:
          OutputError: another run is.
        """
        self._show(_ARRIVES)
        self.look()
        for other in sorted(self.live):
            self._give_way(other)
        self._show(_STAYS)
        self._thread = threading.Thread(target=self._show_life, daemon=True, name="claim")
        self._thread.start()

    def look(self) -> None:
        """Sees anew which other runs live and which are dead."""
        self._since = self._folder.modified(self._sign) or self._since
        self.live, self.dead = set(), set()
        for stored in self._folder.files(WORK):
            run = stored.path.removeprefix(f"{WORK}/").removesuffix(ALIVE)
            if stored.path.endswith(ALIVE) and run != self._run:
                (self.dead if self._age(stored) > self._abandoned_after else self.live).add(run)

    def is_over(self, run: str, stored: Stored) -> bool:
        """Whether a file of some run may be removed: its run is dead, or shows no sign and the file is old enough."""
        return run in self.dead or (run not in self.live and self._age(stored) > self._abandoned_after)

    def check_held(self) -> None:
        """Raises an OutputError where another run has taken this one for dead, and its files away."""
        if self._version is None or self._folder.version(self._sign) is None:
            raise OutputError(
                f"another run took {self._folder} over, as this one had shown no sign of life for "
                f"{self._abandoned_after:.0f} s; start it anew once that run has ended, or raise output.abandoned_after"
            )

    def withdraw(self) -> None:
        """Takes the sign of life away."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()  # or its last sign may come after this
        with contextlib.suppress(OSError):  # it grows old
            self._folder.delete(self._sign)

    def _give_way(self, other: str) -> None:
        """Raises an OutputError where another live run was here first: it stays, or arrived before this one did."""
        sign = f"{WORK}/{other}{ALIVE}"
        try:
            where, _, state = self._folder.read(sign).decode().rpartition("\n")
            arrived = self._folder.modified(sign)
        except FileNotFoundError:
            return  # it has just gone
        if state != _STAYS and arrived is not None and (arrived, other) > (self._since, self._run):
            return  # it will see this one, and give way
        raise OutputError(
            f"run {other} on {where.partition(' ')[0]} holds {self._folder} and showed life "
            f"{max(self._since - (arrived or self._since), 0):.0f} s ago; wait for it to end, or, if it is dead, until "
            f"that is {self._abandoned_after:.0f} s (output.abandoned_after)"
        )

    def _show(self, state: str) -> None:
        version = self._folder.write_if(self._sign, f"{machine()}\n{state}".encode(), self._version)
        if version is None:  # somebody took it away: `check_held` tells
            self._leaving.set()
        self._version = version

    def _age(self, stored: Stored) -> float:
        return self._since - stored.modified

    def _show_life(self) -> None:
        while not self._leaving.wait(SIGN_SECONDS):
            with contextlib.suppress(OSError):  # a store that cannot be reached: later again
                os.utime(self._work)
            with contextlib.suppress(OSError):
                self._show(_STAYS)
