"""Reproducible training of a DCGAN. The stages of the DVC pipeline, in `pipeline`, are built from this library."""
