"""Quality metrics of generated pictures: feature networks, distances between features, and scores.

Input: real and generated pictures. Output: numbers with their protocol, and the nearest neighbours of generated
pictures.
"""
