"""Checkpoints as folders of weights, training state, configuration and metrics, without pickles."""
