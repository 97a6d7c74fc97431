"""Where a source's files go: the whole folder or nothing, and a second run finds the first one's work.

Files are written into a hidden folder beside the output and appear with one rename, so that a killed run leaves
nothing under the output's name (its hidden folder stays, `.<name>.part-*`). `source.json` says what the folder holds: a
folder of another source, or of other parameters, is never taken for this one, and what no source wrote stays.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import EnvironmentProblem, OutputError

RECORD = "source.json"


def is_present(output: Path, identity: Mapping[str, Any], overwrite: bool = False) -> bool:
    """Returns whether `output` already holds what `identity` describes; False means that it may be written.

    Raises OutputError where it holds something else: another source's work needs `overwrite`, all else another folder.
    """
    if not output.exists():
        return False
    if not output.is_dir():
        raise OutputError(f"{output} is a file; --output expects a folder")
    if not any(output.iterdir()):
        return False
    try:
        found = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise OutputError(f"{output} holds files that no source wrote; choose another --output") from None
    if overwrite:
        return False
    differing = [key for key, value in identity.items() if found.get(key) != value]
    if differing:
        raise OutputError(
            f"{output} holds the source {found.get('source')!r}, differing in {', '.join(differing)}; "
            "choose another --output, or --overwrite to replace it"
        )
    return True


@contextmanager
def staged(output: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Yields an empty folder to write into, which becomes `output` when the block ends without an error."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{output.name}.part-", dir=output.parent))
    except OSError as problem:
        raise EnvironmentProblem(
            f"{output} cannot be written: {problem.strerror}; choose another --output"
        ) from problem
    try:
        yield part
        (part / RECORD).write_text(json.dumps(dict(identity), indent=2) + "\n", encoding="utf-8")
        part.chmod(0o755)  # mkdtemp's own mode hides it from a cluster's other users
        _publish(part, output)
    except OSError as problem:
        raise EnvironmentProblem(f"{output} cannot be written: {problem.strerror or problem}") from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _publish(part: Path, output: Path) -> None:
    """Puts `part` where `output` was; a kill between the two renames leaves no output, which the next run mends."""
    replaced = part.with_name(f"{part.name}-replaced")
    if output.exists():
        output.rename(replaced)
    part.rename(output)
    shutil.rmtree(replaced, ignore_errors=True)
