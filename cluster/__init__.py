"""Local clusters, cluster manifests and job submission. Imports no other layer: it submits command lines."""
