"""The detector's parts, one concept per file."""
