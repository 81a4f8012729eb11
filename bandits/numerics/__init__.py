"""Numerics of policies: posteriors, quadrature, linear models, index shares of batches."""
