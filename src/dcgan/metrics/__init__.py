"""How good generated pictures are: feature networks, distances between their features, scores.

In come pictures, real and generated; out go numbers with their protocol, and the pictures' nearest neighbours.
"""
