"""What a local JVM is told of an archive of classes, and what becomes of a first job that fails."""

import sys
from pathlib import Path

import pytest

from pipelines import class_archive
from schemas.errors import EnvironmentProblem


def test_only_an_archive_that_is_there_is_named(tmp_path):
    assert "SharedArchiveFile" not in class_archive.options(tmp_path)
    archive = tmp_path / class_archive.NAME
    archive.touch()
    assert f"-XX:SharedArchiveFile={archive}" in class_archive.options(tmp_path).split()


def test_a_first_job_that_fails_leaves_no_archive_and_says_why(tmp_path, monkeypatch):
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    submit.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('nothing works here')\n")
    submit.chmod(0o755)
    monkeypatch.setattr(class_archive, "ensure_java", lambda: None)
    monkeypatch.setenv("PATH", str(submit.parent))
    with pytest.raises(EnvironmentProblem, match=r"failed \(1\): nothing works here"):
        class_archive.make(tmp_path / "new" / "classes.jsa")
    assert list(Path(tmp_path / "new").iterdir()) == []
