"""The state of a sweep: journal, records, history and checkpoints."""
