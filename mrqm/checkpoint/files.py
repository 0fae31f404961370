"""Names of a checkpoint's files, for those who need no model: importing one takes a second or more."""

WEIGHTS, TRAINING, CONFIG, METRICS = "model.safetensors", "training.pt", "config.yaml", "metrics.json"
FILES = (WEIGHTS, TRAINING, METRICS, CONFIG)
