"""Commands of `dcgan` with a module of their own.

The inputs are the words that the user types after `dcgan`. The outputs are lines on the terminal, and files.
"""
