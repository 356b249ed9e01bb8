"""Ground layer: what every other layer stands on, and nothing about mixtures."""
