"""Prints what the project and the extras named as arguments depend on, a line a package, for the images' build.

pip can install a project's dependencies only together with the project; an image wants them as a layer of their own.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Reads ./pyproject.toml; an extra that it does not have is an error."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    unknown = sorted(set(sys.argv[1:]) - known.keys())
    if unknown:
        sys.exit(f"requirements: no extra {', '.join(unknown)} in pyproject.toml; expected of: {', '.join(known)}")
    print("\n".join([*project["dependencies"], *(line for extra in sys.argv[1:] for line in known[extra])]))


if __name__ == "__main__":
    main()
