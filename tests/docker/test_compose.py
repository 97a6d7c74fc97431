"""compose.yaml, the Dockerfile and the job file agree with each other and with what they call; nothing is built."""

import re
from pathlib import Path, PurePosixPath

import click
import pytest
import yaml

from pipelines import audit, prebatch
from pipelines.config import Config
from pipelines.sources.__main__ import sources
from schemas import configuration
from trainer.__main__ import commands as trainer

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
# What an image's own entrypoint, or the words of one in compose.yaml, stand for.
COMMANDS = {
    "prebatch.py": prebatch.main,
    "pipelines.audit": audit.main,
    "pipelines.sources": sources,
    "trainer": trainer,
}


def targets():
    """(base, user, entrypoint) of each stage of the Dockerfile, what a stage does not say being its base's."""
    found = {}
    for stage in re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]:
        ((base, name),) = re.findall(r"^FROM (\S+) AS (\S+)", stage)
        user = re.search(r"^USER (\S+)", stage, re.MULTILINE)
        entrypoint = re.search(r"^ENTRYPOINT (.+)$", stage, re.MULTILINE)
        found[name] = (base, user and user[1], entrypoint and yaml.safe_load(entrypoint[1]))
    return found


def words(service):
    entrypoint = service.get("entrypoint") or targets()[service["build"]["target"]][2]
    command = service.get("command", [])
    if entrypoint[:2] == ["sh", "-c"]:
        return [line.split() for line in command[0].split("&&")]
    return [[*entrypoint, *command]]


def test_services_are_built_from_targets_that_are_there():
    for name, service in OURS.items():
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT, name
        assert ROOT / service["build"]["dockerfile"] == DOCKER / "Dockerfile", name
        assert service["build"]["target"] in targets(), name
    assert {service["build"]["target"] for service in OURS.values()} == {"prebatch", "trainer"}
    assert len({(service["image"], service["build"]["target"]) for service in OURS.values()}) == 2
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_both_images_run_as_a_number_that_is_not_root():
    for name in ("prebatch", "trainer"):
        base, user, entrypoint = targets()[name]
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), name
        assert entrypoint, name
        # No stage between the base image and the end installs anything: what was built is copied.
        assert base == "runtime", name
        assert targets()[base][0] == "${BASE}", name
    end = DOCKERFILE[DOCKERFILE.index("FROM ${BASE} AS runtime") :]
    assert not re.search(r"\b(apt-get|pip|gcc|make)\b", end)


def test_commands_take_the_arguments_that_they_are_given():
    checked = set()
    for name, service in OURS.items():
        for line in words(service):
            known = [place for place, word in enumerate(line) if PurePosixPath(word).name in COMMANDS]
            if not known:
                assert line[0] in ("spark-class", "tensorboard"), name
                continue
            word = PurePosixPath(line[known[0]]).name
            arguments = line[known[0] + 1 :]
            command = COMMANDS[word]
            while isinstance(command, click.Group):
                command, arguments = command.commands[arguments[0]], arguments[1:]
            command.make_context(word, arguments)
            checked.add(word)
    assert checked == set(COMMANDS)


def test_an_option_that_is_not_there_is_noticed():
    with pytest.raises(click.NoSuchOption):
        trainer.commands["train"].make_context("train", ["--data", "x", "--output", "y", "--epochs", "3"])


def test_every_service_waits_for_one_that_is_there_and_stays_in_its_box():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DOCKER / source).exists(), name
        if name in OURS:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


def test_images_of_others_are_pinned():
    for name in SERVICES.keys() - OURS.keys():
        assert re.search(r":\d+\.\d+\.\d+$", SERVICES[name]["image"]), name
    assert re.search(r"^ARG BASE=python:3\.11-slim-bookworm$", DOCKERFILE, re.MULTILINE)


def test_the_job_file_is_right_and_reads_what_the_clicks_service_writes():
    config = configuration.load(Config, DOCKER / "jobs" / "synthetic.yaml")
    written = SERVICES["clicks"]["command"][SERVICES["clicks"]["command"].index("--output") + 1]
    paths = [source.path for source in (config.clicks, config.items, config.users) if source is not None]
    assert [str(PurePosixPath(path).parent) for path in paths] == [written] * 3
    assert config.output.path in SERVICES["audit"]["command"]
    assert config.output.path in SERVICES["train"]["command"]


def test_what_serves_is_what_was_published():
    bases = re.findall(r'base_path: "(\S+)"', (DOCKER / "serving.config").read_text(encoding="utf-8"))
    root = SERVICES["publish"]["command"][0].split("--to ")[1].split()[0]
    assert bases == [f"{root}/current/{tower}" for tower in ("user_tower", "item_tower")]
    mounted = dict(volume.split(":")[:2] for volume in SERVICES["serving"]["volumes"])
    assert SERVICES["serving"]["command"] == [f"--model_config_file={mounted['./serving.config']}"]


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert len(copied) > 5
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
