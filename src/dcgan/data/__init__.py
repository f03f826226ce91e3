"""The data: from the files of a source to packed faces.

The inputs are the files of a source: fetched and verified, drawn, or the user's own. The outputs are uint8 arrays
(N, H, W, C), a table with one row per face, and the data card.
"""
