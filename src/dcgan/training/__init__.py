"""Losses, one training step, the training loop, and checkpoints.

Input: packed faces, the network settings and a recipe. Output: trained networks, loss curves and picture grids. The
same machine, threads, ranks and settings give the same bytes each time.
"""
