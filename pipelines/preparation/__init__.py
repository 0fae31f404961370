"""`mrqm prepare`: conversion, tiles and checks of data sets."""
