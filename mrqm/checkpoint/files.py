"""Names of a checkpoint's files, apart from the modules that import torch, which takes a second or more."""

WEIGHTS, TRAINING, CONFIG, METRICS = "model.safetensors", "training.pt", "config.yaml", "metrics.json"
FILES = (WEIGHTS, TRAINING, METRICS, CONFIG)
