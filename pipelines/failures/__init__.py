"""One taxonomy of failures for trainings and sweeps, and what follows from each."""
