"""How a cluster comes up and how a job reaches it. Imports no other layer: what it submits are command lines."""
