"""What a generator has learnt: attributes of its faces, directions in its latent space, and moves along them.

Input: a generator and its discriminator, and labelled faces. Output: probes with their scores, directions with names,
strips of faces, and pictures. Nothing here is trained by gradient descent except the latents of `projection`.
"""
