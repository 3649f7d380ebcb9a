"""Results as pages that a person reads: self-contained HTML, no network, light and dark."""
