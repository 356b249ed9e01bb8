"""Covariance structures: how the covariances of k components are parametrised, shared and estimated."""
