"""What policies compute with: posteriors, quadrature, linear models, shares in waves."""
