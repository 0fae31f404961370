"""`mrqm plan`: checks before anything expensive starts."""
