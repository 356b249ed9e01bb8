"""Selection layer: which of several mixtures to believe."""
