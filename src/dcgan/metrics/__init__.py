"""How good generated pictures are: feature networks, and distances between their features."""
