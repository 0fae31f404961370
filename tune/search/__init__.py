"""Search algorithms, pruners, population-based training and the trial scheduler."""
