"""Utilities that all other packages use: atomic file writes, one-sentence errors, progress, hardware and processes.

The inputs are paths, numbers and the machine. The outputs are files, terminal lines and the machine's capabilities.
"""
