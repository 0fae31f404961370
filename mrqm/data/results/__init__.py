"""Result files: detections as benchmarks and other tools write them."""
