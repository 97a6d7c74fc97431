"""How each command of the pages is kept true: run with others in a flow, run when time allows, or held by a test.

A flow is sections of pages in the order in which somebody would follow them. What runs neither here nor elsewhere
stands in a section that says **not run**.
"""

from typing import NamedTuple


class Held(NamedTuple):
    """Commands of a page that begin so are run, as far as they can be, by a file of tests, which has these words."""

    page: str
    begins: str
    by: str
    words: str


FLOWS = {
    "MovieLens": (
        ("README.md", "Two commands"),
        ("README.md", "Five minutes on MovieLens"),
        ("trainer/README.md", "What the towers take"),
        ("trainer/README.md", "Asking a model"),
        ("trainer/README.md", "Publishing"),
    ),
    "own clicks": (("README.md", "Bring your own clicks"),),
    "days": (("pipelines/README.md", "Day after day"), ("pipelines/README.md", "From one day to the next")),
    "cluster": (
        ("pipelines/CLUSTERS.md", "On a cluster"),
        ("pipelines/CLUSTERS.md", "Standalone"),
        ("pipelines/README.md", "On a cluster"),
        ("pipelines/sources/README.md", "MovieLens-1M (`ml-1m`)"),
    ),
}
# Targets that are tests themselves, or a part of every other.
THEMSELVES = {
    "make test", "make test-cluster", "make test-airflow", "make test-docs", "make docker-check", "make lint",
    "make setup",
}  # fmt: skip
# `make test-docs LONG=1`: up to an hour each.
LONG = (
    "make quality", "make days", "make train DATASET=complete-journey", "make bench", "make peers",
    "make compare COMPARE=languages", "make compare COMPARE=cold", "make compare-negatives", "make compare",
)  # fmt: skip
HELD = (
    Held("README.md", "make train DATASET=ml-1m", "tests/pipelines/test_sources_ml_1m.py", "ml-1m.zip"),
    Held("README.md", "python -m trainer compare --config FILE", "tests/trainer/test_compare_runs.py", "compare"),
    Held("docker/README.md", "docker build", "tests/docker/images.py", "docker/Dockerfile"),
    Held("docker/README.md", "docker run", "tests/docker/test_images.py", "--config"),
    Held("docker/README.md", "airflow backfill create", "tests/airflow/test_dag.py", '"backfill", "create"'),
    Held("docker/README.md", "python -m trainer publish", "tests/trainer/test_publication.py", "roll_back"),
    Held("pipelines/CLUSTERS.md", "spark-submit ... --archives", "tests/cluster/test_shipment.py", "#third_party"),
    Held("pipelines/CLUSTERS.md", "spark-submit --master spark://", "tests/cluster/standalone.py", '"--py-files"'),
    Held("pipelines/CLUSTERS.md", "pip install 'prebatch[spark,connect]'", "tests/cluster/connect.py", "connect"),
    Held("pipelines/CLUSTERS.md", "SPARK_REMOTE=", "tests/cluster/connect.py", '"SPARK_REMOTE"'),
    Held("pipelines/README.md", "spark-submit --master ...", "tests/cluster/standalone.py", '"--py-files"'),
)


# Of sections in a flow.
NOT_RUN = ("tensorflow_model_server",)


def is_held(page: str, command: str) -> bool:
    """Whether another test runs a command."""
    return any(page == held.page and command.startswith(held.begins) for held in HELD)


def is_run(page: str, command: str) -> bool:
    """Whether a command of a section in a flow is run with the flow."""
    return not is_held(page, command) and command not in THEMSELVES and not command.startswith(NOT_RUN)
