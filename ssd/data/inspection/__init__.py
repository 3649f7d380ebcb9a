"""What is wrong with samples, found before anything starts."""
