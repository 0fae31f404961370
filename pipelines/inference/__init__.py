"""`mrqm predict`: inputs, predictors and the folder of results."""
