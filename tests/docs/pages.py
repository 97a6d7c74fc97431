"""Every page of documentation as what can be checked: commands in blocks and in sentences, YAML, code spans, links.

A block of code is fenced or indented by four spaces. One whose first line is a command holds nothing but commands;
others are listings, formulas and YAML. In a command `[--option X]` is an option that may be given.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "samplers", "pipelines", "trainer", "docker", "tests")
PROGRAMS = {
    "airflow", "apt-get", "docker", "export", "make", "pip", "prebatch", "python", "saved_model_cli", "source",
    "spark-submit", "tensorflow_model_server",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """Code of a page: its language ("" where none is given), its lines, and the number of the first."""

    language: str
    lines: tuple[str, ...]
    number: int

    @property
    def commands(self) -> list[str]:
        """The commands, each on one line, without comments and with all that may be given; [] of what is none."""
        joined = re.sub(r" *\\\n\s*", " ", "\n".join(self.lines)).split("\n")
        lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in joined]
        if self.language or program(lines[0]) not in PROGRAMS:
            return []
        return [re.sub(r"\[(-[^\]]*)\]", r"\1", line) for line in lines if line]


@dataclass(frozen=True)
class Section:
    """What stands below a heading, up to the next one."""

    page: str
    heading: str
    text: str
    number: int

    @cached_property
    def _parts(self) -> tuple[list[Block], str]:
        return _taken_apart(self.text.split("\n"), self.number)

    @property
    def blocks(self) -> list[Block]:
        """Its code."""
        return self._parts[0]

    @property
    def prose(self) -> str:
        """All else."""
        return self._parts[1]

    @property
    def commands(self) -> list[str]:
        """The commands of its blocks, in order."""
        return [command for block in self.blocks for command in block.commands]

    @property
    def spans(self) -> list[str]:
        """Code within sentences, each on one line."""
        found = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", self.prose, re.DOTALL)
        return [" ".join(text.split()) for _, text in found]

    @property
    def said(self) -> list[str]:
        """Commands within sentences, which may lack what a sentence does not need."""
        return [span for span in self.spans if _is_command(span)]


def pages() -> list[str]:
    """Paths of all pages; a changelog tells of commands as they were, so it is none."""
    found = [*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "CHANGELOG.md")


def sections(page: str, text: str | None = None) -> list[Section]:
    """A page's sections; what comes before its first heading is one."""
    lines = ((ROOT / page).read_text(encoding="utf-8") if text is None else text).split("\n")
    begins, fenced = [0], False
    for number, line in enumerate(lines):
        fenced ^= line.startswith("```")
        if number and not fenced and re.match(r"#+ ", line):
            begins.append(number)
    return [
        Section(page, lines[begin].lstrip("# "), "\n".join(lines[begin + 1 : end]), begin + 2)
        for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True)
    ]


def program(line: str) -> str:
    """The first word of a command that is no variable set for it; "" where there is none."""
    return next((word for word in line.split() if not _ASSIGNMENT.fullmatch(word)), "")


def words(command: str) -> list[list[str]]:
    """The words of each of the commands that `&&` joins, without variables set for them."""
    found = []
    for part in command.split(" && "):
        given = shlex.split(part)
        while given and _ASSIGNMENT.fullmatch(given[0]):
            given.pop(0)
        found.append(given)
    return found


def _is_command(span: str) -> bool:
    first, _, rest = span.partition(" ")
    if first in ("prebatch", "pip"):  # words of sentences, too
        return rest.startswith(("-", "install "))
    return program(span) in PROGRAMS and bool(rest)


def _taken_apart(lines: list[str], number: int) -> tuple[list[Block], str]:
    """(blocks of code, all else) of a section's lines."""
    blocks, prose = [], []
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.startswith("```"):
            end = next(i for i in range(place + 1, len(lines)) if lines[i].startswith("```"))
            blocks.append(Block(line.strip("`").strip(), tuple(lines[place + 1 : end]), number + place + 1))
            place = end + 1
        elif line.startswith("    ") and (not place or not lines[place - 1].strip()):
            after = (i for i in range(place, len(lines)) if lines[i].strip() and not lines[i].startswith("    "))
            end = next(after, len(lines))
            code = "\n".join(text.removeprefix("    ") for text in lines[place:end]).rstrip().split("\n")
            blocks.append(Block("", tuple(code), number + place))
            place = end
        else:
            prose.append(line)
            place += 1
    return blocks, "\n".join(prose)


def everything() -> Iterator[Section]:
    """The sections of all pages."""
    for page in pages():
        yield from sections(page)
