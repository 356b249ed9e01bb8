"""How far two mixtures are apart: estimates, bounds and distances, all of them differentiable."""
