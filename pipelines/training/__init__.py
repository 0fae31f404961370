"""`mrqm train`: driver, workers, failure policy and messages."""
