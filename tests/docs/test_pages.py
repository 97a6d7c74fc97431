"""What the pages show is right as far as can be told without running it, and each command is run by something.

Options are those that click knows, make's targets and variables those of the Makefile, YAML what the models take, files
and headings that are named are there. `make test-docs` runs the commands (test_commands.py).
"""

import importlib
import importlib.util
import re
import subprocess
import tomllib

import click
import pytest
import yaml

from pipelines.config import Config
from pipelines.days import for_date
from pipelines.negatives_config import STRATEGIES
from schemas import configuration
from tests.docs import kept, pages
from tests.docs.pages import ROOT
from trainer.settings import Settings

SECTIONS = list(pages.everything())
COMMANDS = list(dict.fromkeys((one.page, command) for one in SECTIONS for command in one.commands))
SAID = list(dict.fromkeys((one.page, command) for one in SECTIONS for command in one.said))
MAKE = sorted({command for _, command in (*COMMANDS, *SAID) if command.startswith("make ")})
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SPARK = {
    "--master",
    "--driver-memory",
    "--deploy-mode",
    "--conf",
    "--py-files",
    "--archives",
    "--files",
    "--driver-java-options",
}
# Options of others that a sentence names.
FOREIGN = {*SPARK, "--build-arg", "--secret", "--entrypoint", "--reprocess-behavior", "--user"}


def click_command(module):
    """What `python -m module` runs, where that is click's; None where it is another parser's."""
    spec = importlib.util.find_spec(module)
    name = f"{module}.__main__" if spec is not None and spec.submodule_search_locations else module
    loaded = importlib.import_module(name)
    known = [getattr(loaded, attribute, None) for attribute in ("main", "commands", "sources")]
    return next((command for command in known if isinstance(command, click.Command)), None)


def modules():
    """All that may follow `python -m` and is click's."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "pipelines").glob("*.py"))}
    found = [
        f"pipelines.{path.stem}"
        for path, source in sources.items()
        if re.search(r"^@click\.command", source, re.MULTILINE)
    ]
    return ["trainer", "pipelines.sources", *found]


def options_of(command):
    """The options of a command and of those below it."""
    known = [one for one in command.params if isinstance(one, click.Option)]
    found = {option for one in known for option in (*one.opts, *one.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options_of, below), {"--help"})


def refusal(command, arguments, whole):
    """What click says against arguments, None where it takes them; whole: whether what is required must be there."""
    try:
        while isinstance(command, click.Group) and arguments:
            if arguments[0] not in command.commands:
                return f"no such command {arguments[0]}"
            command, arguments = command.commands[arguments[0]], arguments[1:]
        if not isinstance(command, click.Group):
            command.make_context("command", list(arguments))
    except click.MissingParameter as error:
        return error.format_message() if whole else None
    except click.UsageError as error:
        return error.format_message()
    return None


def wrong(words, whole=True):
    """What is wrong with one command of ours; None where nothing is, or where it is another's."""
    match words:
        case ["python", "-m", module, *arguments]:
            if importlib.util.find_spec(module) is None:
                return f"no module {module}"
            command = click_command(module)
            return None if command is None else refusal(command, arguments, whole)
        case ["prebatch", *arguments]:
            return refusal(click_command("pipelines.prebatch"), arguments, whole)
        case ["spark-submit", *arguments]:
            while arguments and arguments[0] != "..." and arguments[0].startswith("--"):
                if arguments[0] not in SPARK:
                    return f"spark-submit {arguments[0]}"
                arguments = arguments[2:]
            if not arguments or arguments[0] == "...":
                return None
            script, *arguments = arguments
            if not script.endswith("pipelines/prebatch.py"):
                return f"no such program: {script}"
            return refusal(click_command("pipelines.prebatch"), arguments, whole)
        case ["pip", "install", package, *_]:
            name, _, extras = package.rstrip("]").partition("[")
            missing = set(extras.split(",")) - {""} - PROJECT["optional-dependencies"].keys()
            return f"{package}: no extra {missing}" if name == PROJECT["name"] and missing else None
    return None


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_take_what_they_are_given(page, command):
    assert [problem for words in pages.words(command) if (problem := wrong(words))] == []


@pytest.mark.parametrize(("page", "command"), SAID)
def test_commands_of_sentences_take_what_they_are_given(page, command):
    assert [problem for words in pages.words(command) if (problem := wrong(words, whole=False))] == []


def test_options_that_sentences_name_exist():
    known = set(FOREIGN).union(*(options_of(click_command(name)) for name in modules()))
    spans = {span for one in SECTIONS for span in one.spans if re.match(r"--[a-z]", span) and "..." not in span}
    named = {(span, option) for span in spans for option in re.findall(r"(?:^|\s)(--[a-z][a-z-]*)", span)}
    assert len(named) > 30
    assert {span for span, option in named if option not in known} == set()


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_targets_and_variables(command):
    variables = dict(word.split("=") for word in command.split() if "=" in word)
    assert [name for name in variables if not re.search(rf"^{name} \?=", MAKEFILE, re.MULTILINE)] == []
    targets = [word for word in command.split()[1:] if "=" not in word]
    assert [name for name in targets if not re.search(rf"^{name}:.* ## ", MAKEFILE, re.MULTILINE)] == []
    # --old-file: nothing is to be installed, whatever the dates of files say.
    run = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.installed", *command.split()[1:]],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    files = set(re.findall(r"\S+/examples/[\w.-]+", run.stdout))
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_command_is_run_by_something():
    followed = {(page, heading) for flow in kept.FLOWS.values() for page, heading in flow}
    assert followed <= {(one.page, one.heading) for one in SECTIONS}
    lost = [
        f"{one.page}, {one.heading}: {command}"
        for one in SECTIONS
        for command in one.commands
        if command not in {*kept.THEMSELVES, *kept.LONG}
        and not kept.is_held(one.page, command)
        and (one.page, one.heading) not in followed
        and "**not run" not in one.text
    ]
    assert lost == [], "in no flow, held by no test (tests/docs/kept.py), and the page does not say **not run**"
    run = {command for one in SECTIONS if (one.page, one.heading) in followed for command in one.commands}
    run |= {*kept.THEMSELVES, *kept.LONG, *(held.begins for held in kept.HELD)}
    assert [command for command in MAKE if command not in run] == []
    for one in SECTIONS:
        assert not [f for f in one.commands if f.startswith(kept.NOT_RUN)] or "**not run" in one.text, one.heading


def test_what_holds_a_command_is_there():
    for held in kept.HELD:
        assert held.words in (ROOT / held.by).read_text(encoding="utf-8"), held
        shown = [command for page, command in (*COMMANDS, *SAID) if page == held.page]
        assert any(command.startswith(held.begins) for command in shown), held
    everywhere = {command for _, command in (*COMMANDS, *SAID)}
    assert [command for command in kept.LONG if command not in everywhere] == []


def test_no_listing_hides_a_command():
    """A block is either commands alone or none, so that a check of its first line is enough."""
    for one in SECTIONS:
        for block in one.blocks:
            if block.commands:
                assert [line for line in block.commands if pages.program(line) not in pages.PROGRAMS] == [], one
            elif block.language != "text":
                assert [line for line in block.lines if re.match(r"(make|python|spark-submit) ", line)] == [], one


def test_files_headings_and_anchors_that_are_named_are_there():
    anchors = {page: {anchor(one.heading) for one in pages.sections(page)} for page in pages.pages()}
    for one in SECTIONS:
        for target in re.findall(r"\]\(([^)\s]+)\)", one.prose):
            path, _, heading = target.partition("#")
            there = (ROOT / one.page).parent / path if path else ROOT / one.page
            assert there.exists(), (one.page, target)
            if heading:
                assert heading in anchors[there.resolve().relative_to(ROOT).as_posix()], (one.page, target)
        for span in one.spans:
            if re.fullmatch(rf"({'|'.join(pages.ROOMS)})/[\w/.-]+\.(py|md|yaml|sh|json|txt|properties)", span):
                assert (ROOT / span).exists(), (one.page, span)
        for heading in re.findall(r"[Ss]ee (?:\w+/README\.md, )?\"([A-Z][^\"]+)\"", one.prose):
            assert anchor(heading) in set().union(*anchors.values()), (one.page, heading)


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def yaml_of(page, heading):
    (block,) = (
        block for one in SECTIONS if (one.page, one.heading) == (page, heading)
        for block in one.blocks if block.language == "yaml"
    )  # fmt: skip
    return yaml.safe_load("\n".join(block.lines))


def test_yaml_of_the_pages_is_what_the_models_take():
    job = yaml_of("README.md", "Bring your own clicks")
    configuration.validate(Config, job, "README.md")
    daily = job | yaml_of("pipelines/README.md", "Day after day") | {"date": "2026-11-20"}
    assert for_date(configuration.validate(Config, daily, "pipelines/README.md")).clicks.filter is not None
    mixed = job | {"negatives": yaml_of("samplers/README.md", "Strategies")}
    mixed["clicks"] |= {"session_gap": "30m"}
    assert len(configuration.validate(Config, mixed, "samplers/README.md").negatives.proposal.components) == 3
    compared = yaml_of("README.md", "Which is better?")
    configuration.validate(Settings, compared, "README.md")
    assert len([block for one in SECTIONS for block in one.blocks if block.language == "yaml"]) == 4


def test_every_strategy_has_a_line():
    (section,) = (one for one in SECTIONS if (one.page, one.heading) == ("samplers/README.md", "Strategies"))
    assert sorted(re.findall(r"^\| `(\w+)` \|", section.prose, re.MULTILINE)) == sorted(STRATEGIES)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python -m trainer train --data D --output O --epochs 3", "No such option"),
        ("python -m trainer fit --data D", "no such command"),
        ("python -m pipelines.prebatch", "Missing option '--config'"),
        ("python -m pipelines.inspect out/mine --records many", "Invalid value"),
        ("spark-submit --py-file dist.zip pipelines/prebatch.py --config F", "--py-file"),
        ("spark-submit --py-files dist.zip pipelines/job.py --config F", "pipelines/job.py"),
        ("spark-submit pipelines/prebatch.py --config F --epochs 2", "No such option"),
        ("source .venv/bin/activate && python -m pipelines.nowhere", "no module"),
        ("pip install 'prebatch[gpu]'", "gpu"),
    ],
)
def test_the_check_finds(command, said):
    assert said in "; ".join(filter(None, map(wrong, pages.words(command))))


def test_pages_are_taken_apart():
    text = (
        "# One\nsays `make\n  dist` and `x`\n\n```\npython -m a --b   # why\nmake \\\n  c\n```\n\n"
        "    make d [--e F]\n\nend\n## Two\n```yaml\na: 1\n```\n"
    )
    one, two = pages.sections("README.md", text)
    assert (one.heading, two.heading) == ("One", "Two")
    assert one.commands == ["python -m a --b", "make c", "make d --e F"]
    assert one.said == ["make dist"]
    assert (two.commands, two.blocks[0].lines) == ([], ("a: 1",))
