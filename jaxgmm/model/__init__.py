"""Model layer: the mixture, its statistics, the two steps of EM, and where a mixture comes from."""
