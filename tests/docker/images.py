"""The images, built and run by buildah: no daemon, no registry, nothing outside build/docker and the tests' folders.

The base is a Debian that mmdebstrap makes of the machine's own package sources, and Python packages come as wheels that
the machine's own pip fetched: so images can be built wherever `make setup` and apt work, through whatever mirrors they
are set up for. Both stay in build/docker for the next time (220 MB and 1.2 GB). Programs run in a chroot, which asks
for no rights that a container or a CI machine may lack; images are kept as overlays where the machine has them and as
plain copies otherwise: 4 to 9 GB. The first build takes eleven minutes on two cores that others use as well.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "docker"
BASE = "localhost/prebatch-base"
TOOLS = ("buildah", "mmdebstrap")
SETUPTOOLS = "setuptools==80.9.0"  # as in the Dockerfile
EXTRAS = ("spark", "java", "beam", "ann", "trainer")
ENVIRONMENT = os.environ | {"BUILDAH_ISOLATION": "chroot"}
# A job on the cluster in the box took 5 minutes of two cores that had six programs to run.
BUILD_SECONDS, RUN_SECONDS = 1500, 1500


def missing():
    """What this machine lacks, as a sentence; empty if nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not found; on Debian and Ubuntu: apt-get install {' '.join(TOOLS)}"
    if os.geteuid() != 0:
        return "images are built in a chroot, which only root may do here: run it as root, or in a container as root"
    return ""


def buildah(*arguments, seconds=RUN_SECONDS, check=True, **options):
    command = ["buildah", f"--root={FOLDER / 'storage'}", f"--runroot={FOLDER / 'run'}", *map(str, arguments)]
    run = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=False, **options
    )
    if check and run.returncode:
        raise RuntimeError(
            f"buildah {arguments[0]}: exit code {run.returncode}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
        )
    return run


def make_base():
    """The base image, from a Debian that is downloaded once."""
    archive = FOLDER / "base.tar"
    if not archive.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(".unfinished.tar")
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", unfinished], check=True)
        unfinished.rename(archive)
    buildah("rm", "--all")  # what a run that was killed left mounted
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", "--quiet", container, archive, "/")
    buildah("commit", "--quiet", "--rm", container, BASE)


def make_wheels():
    """A folder with all packages of both images, fetched or built by this Python's pip; pip.conf then knows no other.

    This machine's Python 3.11 stands for that of the base; both are Linux on the same processor.
    """
    wheels, told = FOLDER / "wheels", hashlib.sha256(SETUPTOOLS.encode())
    for name in ("pyproject.toml", "docker/constraints.txt"):
        told.update((ROOT / name).read_bytes())
    mark = wheels / ".complete"
    if not mark.exists() or mark.read_text() != told.hexdigest():
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir(parents=True)
        lines = subprocess.run(
            [sys.executable, "docker/requirements.py", *EXTRAS], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-input", "--use-pep517"]
        command += ["--wheel-dir", str(wheels), "--constraint", str(ROOT / "docker/constraints.txt")]
        subprocess.run([*command, SETUPTOOLS, *lines], check=True)
        mark.write_text(told.hexdigest())
    (FOLDER / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n", encoding="utf-8")
    return wheels


def build(target):
    """Builds one target of docker/Dockerfile, and returns the image's name."""
    name = f"localhost/prebatch-test-{target}"
    buildah(
        "build", "--file", ROOT / "docker/Dockerfile", "--ignorefile", ROOT / "docker/Dockerfile.dockerignore",
        "--target", target, "--build-arg", f"BASE={BASE}", "--secret", f"id=pip,src={FOLDER / 'pip.conf'}",
        "--volume", f"{make_wheels()}:/wheels:ro", "--pull-never", "--tag", name, ROOT,
        seconds=BUILD_SECONDS,
    )  # fmt: skip
    return name


class Image:
    """An image to run: what it is configured for is read from it, not from the Dockerfile."""

    def __init__(self, name):
        self.name = name
        self.container = buildah("from", "--pull-never", name).stdout.strip()
        told = json.loads(buildah("inspect", "--type", "image", name).stdout)
        self.config = told["OCIv1"]["config"]

    def run(self, *arguments, data=None, entrypoint=None, mounts=(), seconds=RUN_SECONDS):
        """A finished process: the image's own entrypoint, or another one, with these arguments."""
        return buildah(*self._words(arguments, data, entrypoint, mounts), seconds=seconds, check=False)

    @contextmanager
    def service(self, *arguments, entrypoint, log, data=None):
        """A program that runs until the block ends; its output goes to `log`."""
        command = ["buildah", f"--root={FOLDER / 'storage'}", f"--runroot={FOLDER / 'run'}"]
        command += map(str, self._words(arguments, data, entrypoint, ()))
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env=ENVIRONMENT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                yield process
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(15)

    def remove(self):
        buildah("rm", self.container, check=False)

    def _words(self, arguments, data, entrypoint, mounts):
        volumes = ([f"{data}:/data"] if data else []) + [f"{source}:{target}:ro" for source, target in mounts]
        command = self.config["Entrypoint"] if entrypoint is None else entrypoint
        # buildah names a container without telling its /etc/hosts, as Docker does; Java asks who it is on.
        options = ["--hostname=localhost", *(f"--volume={volume}" for volume in volumes)]
        return ["run", *options, self.container, "--", *command, *arguments]
