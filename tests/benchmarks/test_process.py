"""A watched command's time and memory are its own and its children's; one that outlasts its limit is ended."""

import sys

from tests.benchmarks.process import kind_of, watched

EATS = """
import time
held = bytearray(200 << 20)
end = time.process_time() + 1
while time.process_time() < end:
    pass
time.sleep(0.6)
"""


def test_what_a_child_uses_is_counted(tmp_path):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EATS!r}])"
    usage = watched([sys.executable, "-c", child], tmp_path / "log")
    assert usage.code == 0
    assert usage.ended
    assert usage.cpu_seconds > 0.8
    assert usage.peaks["driver"].resident_bytes > 200 << 20


def test_what_outlasts_its_limit_is_ended(tmp_path):
    usage = watched([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", limit_seconds=1)
    assert not usage.ended
    assert usage.seconds < 30


def test_kinds_of_processes():
    assert kind_of([b"/usr/bin/python3", b"-m", b"pyspark.daemon", b"pyspark.worker"]) == "worker"
    assert kind_of([b"/jdk/bin/java", b"-cp"]) == "jvm"
    assert kind_of([b"python3.11", b"prebatch.py"]) == "driver"
    assert kind_of([b"bash", b"spark-submit"]) == "launcher"
