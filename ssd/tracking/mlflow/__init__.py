"""The MLflow writer: the store, names, sweeps, models, and what waits to be sent."""
