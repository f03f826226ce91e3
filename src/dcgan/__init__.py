"""Reproducible training of a DCGAN. A library: no DVC, no params.yaml and no argv inside."""
