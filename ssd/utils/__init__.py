"""What every room may use and that knows nothing of detection: errors, files, processes, text."""
