"""From the files of a source to packed faces.

In come the files of a source, fetched and verified, drawn, or the user's own; out go uint8 arrays (N, H, W, C), a table
with one row a face, and the data card.
"""
