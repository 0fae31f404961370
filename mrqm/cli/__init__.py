"""The commands of `mrqm`, one function each; `mrqm.__main__` assembles them.

Layers are imported inside the commands, so that `--help` and a mistyped configuration answer at once.
"""
