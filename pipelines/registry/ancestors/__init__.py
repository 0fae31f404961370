"""Detectors that others descend from: resolution of `model.init`, and the chain of a registered version."""
