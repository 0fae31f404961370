"""`mrqm evaluate`: scores, report, plots and tracking of an evaluation."""
