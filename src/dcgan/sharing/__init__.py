"""A folder that draws a generator's faces without this project: an exported program, ONNX, weights and a model card.

Input: a generator's file and what is recorded of it. Output: the folder.
"""
