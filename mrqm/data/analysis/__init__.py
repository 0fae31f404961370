"""Statistics and checks of annotated data."""
