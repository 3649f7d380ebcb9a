"""The MLflow model: what a request may hold, and its answer."""
