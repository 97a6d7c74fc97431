"""A Python as an executor of a cluster has it: what `requirements` of the zip says, and nothing of this project.

The environment that runs the tests has the project installed, which would hide that nothing was shipped. So this is an
environment of its own, whose packages are links to those of the tests: no download, and nobody's `.pth`.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from pipelines.shipment import requirements


def bare(folder):
    """The path of the Python in a new environment without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    return folder / "bin" / "python"


def made(folder, sitecustomize):
    """The path of the Python in a new environment; it runs the file `sitecustomize` when it starts."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    for path in {path for name in closure(requirements()) for path in top_level(name)}:
        (packages / path.name).symlink_to(path)
    (packages / "sitecustomize.py").symlink_to(sitecustomize)
    return folder / "bin" / "python"


def closure(wanted):
    """Names of the distributions wanted and of all that they need themselves."""
    names, left = set(), list(wanted)
    while left:
        requirement = Requirement(left.pop())
        if requirement.name not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names.add(requirement.name)
            left += metadata.requires(requirement.name) or []
    return names


def top_level(name):
    """The packages and modules of a distribution, as they lie in site-packages."""
    found = metadata.distribution(name)
    roots = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    return [Path(str(found.locate_file(root))) for root in roots]
