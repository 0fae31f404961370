"""A checkpoint is a folder: weights, training state, configuration and metrics, none of them a pickle."""
