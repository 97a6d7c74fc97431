"""What our code may tell a person, found in the sources: each text with the exit code that it ends a command with.

A text is what stands in the code, with `…` where something is put in. Found are the errors of schemas/errors.py
wherever one is made, what click is given to complain about, and problems of configurations, which are ValueErrors or
entries of a list before they become one. ValueErrors elsewhere are what a caller of a function did wrong: nobody should
meet them, and a person who does reads `ValueError: ... (--debug shows where)`.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "samplers", "pipelines", "trainer")
GAP = "…"
CODES = {
    "ProjectError": 1, "EnvironmentProblem": 1, "CorruptDataset": 1, "ConfigurationError": 2, "UsageError": 2,
    "DataError": 3, "OutputError": 4,
}  # fmt: skip
# Where a ValueError, and what is put into a list of problems, is a problem of somebody's configuration.
GRAMMARS = {
    "schemas/configuration.py", "schemas/features.py", "pipelines/config.py", "pipelines/config_rules.py",
    "pipelines/input_config.py", "pipelines/negatives_config.py", "pipelines/duration.py", "pipelines/mining.py",
    "pipelines/sources/truth.py", "trainer/config.py", "trainer/loss_config.py", "trainer/variants.py",
}  # fmt: skip
Names = Mapping[str, list[ast.expr]]


@dataclass(frozen=True)
class Told:
    """A text of the code, its exit code, and where it stands."""

    text: str
    code: int
    where: str


def told(root: Path = ROOT) -> list[Told]:
    """Every text that a person may be told, by file and line."""
    trees = {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
    }
    return list(dict.fromkeys(one for path, tree in trees.items() for one in of_module(path, tree)))


def texts(node: ast.AST | None, names: Names, depth: int = 4) -> list[str]:
    """What an expression may say, one text for each branch of it."""
    match node:
        case ast.Constant(value=str() as value):
            return [value]
        case ast.JoinedStr(values=parts):
            return _joined([texts(part, names, depth) for part in parts])
        case ast.FormattedValue(value=ast.Name() as value):
            known = texts(value, names, depth)
            return known if all(" " in text or "." in text for text in known) else [GAP]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _joined([texts(left, names, depth), texts(right, names, depth)])
        case ast.IfExp(body=body, orelse=otherwise):
            return texts(body, names, depth) + texts(otherwise, names, depth)
        case ast.Name(id=name) if name in names and depth:
            return [text for value in names[name] for text in texts(value, names, depth - 1)]
        case _:
            return [GAP]


def _joined(parts: list[list[str]]) -> list[str]:
    return ["".join(branch) for branch in product(*parts)]


def _called(node: ast.AST) -> str:
    """The last word of what a call calls."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
    return ""


def of_module(path: str, tree: ast.Module) -> Iterator[Told]:
    """The texts of one file."""
    for function, names in _functions(tree):
        for node in _own(function):
            for value, code in _said(path, function, node):
                for text in texts(value, names):
                    yield Told(" ".join(text.split()), code, f"{path}:{value.lineno}")


def _functions(tree: ast.Module) -> Iterator[tuple[ast.AST, Names]]:
    """Each function, and the module itself, with what its names are set to."""
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.Module):
            names: dict[str, list[ast.expr]] = {}
            for node in ast.walk(scope) if isinstance(scope, ast.FunctionDef) else ():
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        names.setdefault(name, []).append(value)
                    case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                        for target, value in zip(targets, values, strict=False):
                            if isinstance(target, ast.Name):
                                names.setdefault(target.id, []).append(value)
            yield scope, names


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function itself, not in functions within."""
    left = list(ast.iter_child_nodes(scope))
    while left:
        node = left.pop()
        if not isinstance(node, ast.FunctionDef):
            yield node
            left += ast.iter_child_nodes(node)


def _said(path: str, function: ast.AST, node: ast.AST) -> Iterator[tuple[ast.expr, int]]:
    """(expression of a text, exit code) of what a node tells."""
    match node:
        case ast.Call(args=[first, *_]) if _called(node) in CODES:
            yield first, CODES[_called(node)]
    if path in GRAMMARS:
        yield from ((value, CODES["ConfigurationError"]) for value in _problems(function, node))


def _problems(function: ast.AST, node: ast.AST) -> Iterator[ast.expr]:
    """Texts that a grammar's node adds to what is wrong with a configuration."""
    match node:
        case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"), args=[first])):
            yield first
        case ast.Call(func=ast.Attribute(value=value, attr="append"), args=[first]) if _is_problems(value):
            yield first
        case ast.Assign(targets=[target], value=value) if _is_problems(target):
            yield from _entries(value)
        case ast.AugAssign(target=target, value=value) if _is_problems(target):
            yield from _entries(value)
        case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("_") and function.returns is not None:
                kind = ast.unparse(function.returns)
                if kind in ("list[str]", "Iterator[str]"):
                    yield from _entries(value)
                elif function.name == "_explain":
                    yield value


def _is_problems(node: ast.AST) -> bool:
    match node:
        case ast.Name(id="problems") | ast.Attribute(attr="problems"):
            return True
    return False


def _entries(node: ast.expr) -> Iterator[ast.expr]:
    """The texts in a list, however it is put together."""
    match node:
        case ast.List(elts=elements):
            for element in elements:
                yield from _entries(element)
        case ast.ListComp(elt=element):
            yield element
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            yield from _entries(left)
            yield from _entries(right)
        case ast.JoinedStr() | ast.Constant():
            yield node
