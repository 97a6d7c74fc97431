"""The errors a person is meant to read, each with the exit code its command ends with.

One file, so that the three command lines (producer, inspect, trainer) agree on what a code means. A message says what
was expected, what arrived, where, and which option fixes it, in one line; the command line prints it and exits.
"""


class ProjectError(Exception):
    """Anything that a person can act on; exit code 1 unless a subclass says otherwise."""

    exit_code = 1


class ConfigurationError(ProjectError):
    """Bad configuration or arguments, found before Spark or TensorFlow starts."""

    exit_code = 2


class DataError(ProjectError):
    """Input data that cannot be used, or more rejected rows than `limits.rejected_share` allows."""

    exit_code = 3


class OutputError(ProjectError):
    """The output exists already, or another run holds it."""

    exit_code = 4


class EnvironmentProblem(ProjectError):
    """The machine lacks something: Java, space on the disk, a package."""


class CorruptDataset(ProjectError):
    """A dataset that differs from its manifest; the message names the shard or file."""
