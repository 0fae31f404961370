"""Tables, plots, report and MLflow runs of a sweep."""
