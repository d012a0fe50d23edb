"""Training: everything that makes a gradient, from raw corpora to a bundle."""
