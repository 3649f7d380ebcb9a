"""A trained model on disk: its description, its arrays and graph, the index of checkpoints, writing and pruning."""
