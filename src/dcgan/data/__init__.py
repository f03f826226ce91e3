"""From the files of a source to packed faces.

In come the files that a source publishes (fetched, verified, never unpacked); out go uint8 arrays (N, H, W, C), a table
with one row a face, and the data card.
"""
