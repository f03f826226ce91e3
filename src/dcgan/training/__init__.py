"""Losses, one step, the loop over all steps, and checkpoints.

In come packed faces, the networks' settings and a recipe; out go trained networks, curves and grids, the same bytes
each time.
"""
