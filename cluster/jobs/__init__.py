"""Jobs of a cluster: their packages, their environment, their output."""
