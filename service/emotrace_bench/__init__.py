"""`emotrace-bench`: what Emotrace costs, always beside another way of doing the same."""
