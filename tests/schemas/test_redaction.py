"""Secrets planted in every form that the file knows are gone; what is no secret stays as it is; events are one line."""

import datetime as dt
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import configuration, events, redaction
from schemas.configuration import Strict
from schemas.errors import ConfigurationError

SECRET = "hunter2"


@pytest.mark.parametrize(
    "said",
    [
        f"s3a://AKIA:{SECRET}@bucket/clicks",
        f"s3://AKIA:a/b+{SECRET}/c==@bucket/clicks and more",
        f"https://{SECRET}@host/path",
        f"'hdfs://me:p@ss:{SECRET}@nn:8020/x'",
        f"jdbc:postgresql://host:5432/db?user=me&password={SECRET}",
        f"jdbc:sqlserver://host;user=me;password={SECRET};encrypt=true",
        f"jdbc:oracle:thin:scott/{SECRET}@//host:1521/x",
        f"https://bucket/x?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://account/x?sv=1&sig={SECRET}",
        f"--conf spark.hadoop.fs.s3a.secret.key={SECRET}",
        f"--set output.storage.secretKey='{SECRET} and more'",
        f"AWS_SECRET_ACCESS_KEY = {SECRET}",
        f"Authorization: Bearer {SECRET}{SECRET}",
    ],
)
def test_a_secret_in_a_text_is_hidden(said):
    assert SECRET not in redaction.text(said)
    assert redaction.HIDDEN in redaction.text(said)
    assert SECRET not in json.dumps(redaction.document({"a": [{"b": said}]}))
    assert SECRET not in events.line("read", said, path=said)


@pytest.mark.parametrize(
    "said",
    [
        "hdfs://namenode:8020/data/dt=2026-11-20", "file:///data/a@b", "s3://bucket/me@example.org/x", "data/clicks",
        "tokens=3, secretary=Ann", "features.user.token: unknown key", "me@example.org", "a <> 'b' and c = 3",
        "hdfs://namenode:8020/data@v1",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(said):
    assert redaction.text(said) == said


@given(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="\"'`"), min_size=4, max_size=30))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_no_password_of_a_uri_comes_through(password):
    shown = redaction.text(f"read s3a://key:{password}@bucket-of-mine/x now")
    if not re.match(r"\d{1,5}([/,]|$)", password):  # that would be a port
        assert shown == f"read s3a://{redaction.HIDDEN}@bucket-of-mine/x now"


def test_a_document_keeps_what_is_no_secret_as_it_is():
    document = {
        "token": {"encode": "vocabulary"},
        "password": "x",
        "api_key": None,
        "weights": {"token": 3},
        "n": [1.5],
    }
    assert redaction.document(document) == document | {"password": redaction.HIDDEN}


class Job(Strict):
    count: int = 1
    password: int = 1


@pytest.mark.parametrize(
    "override", [f"password={SECRET}", f"count=s3://k:{SECRET}@b", f"count.password={SECRET}", f"password=[{SECRET}"]
)
def test_an_option_that_is_wrong_is_told_without_its_secret(override):
    with pytest.raises(ConfigurationError) as error:
        configuration.load(Job, None, [override])
    assert SECRET not in str(error.value)


def test_a_file_that_is_no_yaml_is_told_without_its_lines(tmp_path):
    (tmp_path / "job.yaml").write_text(f"a: 1\npassword: [{SECRET}\nb: }}\n")
    with pytest.raises(ConfigurationError, match=r"not valid YAML: line \d+, column \d+: ") as error:
        configuration.load(Job, tmp_path / "job.yaml")
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


def test_code_in_a_job_file_is_no_yaml(tmp_path):
    touched = tmp_path / "touched"
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"):
        (tmp_path / "job.yaml").write_text(f"count: {tag} ['{touched}']\n")
        with pytest.raises(ConfigurationError, match="not valid YAML"):
            configuration.load(Job, tmp_path / "job.yaml")
        with pytest.raises(ConfigurationError, match="not valid YAML"):
            configuration.load(Job, None, [f"count={tag} ['{touched}']"])
    assert not touched.exists()


def test_an_event_is_one_line_of_json_whatever_is_in_it():
    line = events.line("step_ended", "two\nlines", "warning", step="é", seconds=math.inf, parts=[math.nan, 1])
    assert "\n" not in line
    event = json.loads(line)
    assert dt.datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert event == {
        "level": "warning", "event": "step_ended", "message": "two\nlines", "step": "é", "seconds": None,
        "parts": [None, 1],
    }  # fmt: skip
