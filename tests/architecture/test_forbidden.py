"""What our own code does not do: run what a file brings, or reach behind DataFrames where Spark Connect has nothing."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "samplers", "pipelines", "trainer")
# Whoever loads these runs what they say.
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "imp"}
CALLS = {
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system",
    "keras.models.load_model", "keras.saving.load_model", "tf.keras.models.load_model", "keras.layers.Lambda",
    "keras.config.enable_unsafe_deserialization", "pd.read_pickle",
}  # fmt: skip
ARRAYS = {"np.load", "np.save", "np.savez", "np.savez_compressed"}
CLASSIC_SPARK = {"sparkContext", "_jvm", "_jsc", "_jdf", "_jsparkSession", "_sc", "rdd"}
# The session's start, its errors, and what is asked of either kind of Spark.
ENGINE = {"session.py", "engine.py"}


def modules(*rooms):
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def runs_what_a_file_brings(source):
    tree = ast.parse(source)
    found = set(imported(tree)) & MODULES
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        safe = any(option.arg == "allow_pickle" and ast.unparse(option.value) == "False" for option in node.keywords)
        if name in CALLS or (name in ARRAYS and not safe):
            found.add(name)
        if any(option.arg == "shell" and ast.unparse(option.value) != "False" for option in node.keywords):
            found.add(f"{name} by a shell")
    return found


def reaches_behind_dataframes(source):
    tree = ast.parse(source)
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return (names & CLASSIC_SPARK) | (set(imported(tree)) & {"py4j"})


@pytest.mark.parametrize("path", modules(*ROOMS), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled_or_run(path):
    assert runs_what_a_file_brings(path.read_text(encoding="utf-8")) == set()


def test_core_modules_go_by_dataframes_alone():
    paths = [path for path in modules("pipelines") if path.name not in ENGINE]
    found = {path.name: reaches_behind_dataframes(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("def f():\n    from joblib import load", "joblib"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("np.load(path)", "np.load"),
        ("np.load(path, allow_pickle=True)", "np.load"),
        ("keras.models.load_model(path)", "keras.models.load_model"),
        ("eval(text)", "eval"),
        ("subprocess.run(text, shell=True)", "subprocess.run by a shell"),
    ],
)
def test_the_search_finds(source, found):
    assert runs_what_a_file_brings(source) == {found}


@pytest.mark.parametrize(
    "source", ["spark.sparkContext.parallelize", "frame._jdf", "def f():\n    import py4j.protocol"]
)
def test_the_search_finds_classic_spark(source):
    assert reaches_behind_dataframes(source)
