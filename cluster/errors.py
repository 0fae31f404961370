"""What can be wrong with a cluster, or with what is sent to one."""


class ClusterError(ValueError):
    """A command that cannot reach its cluster, or that the cluster could not run; the message says what to change."""


class UnreachableError(ClusterError):
    """Nothing answers at an address: that may pass."""


class UnknownJobError(ClusterError):
    """A job that the cluster does not know."""
