"""Errors of clusters, and of commands that are sent to them."""


class ClusterError(ValueError):
    """A command that cannot reach its cluster, or that the cluster could not run; the message says what to change."""


class UnreachableError(ClusterError):
    """An address at which nothing answers; a later attempt may succeed."""


class UnknownJobError(ClusterError):
    """A job that the cluster has no record of."""
