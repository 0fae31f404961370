"""Models in MLflow's registry: registration, versions, promotion and the pyfunc model."""
