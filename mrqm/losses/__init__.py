"""The criterion and its matcher."""
