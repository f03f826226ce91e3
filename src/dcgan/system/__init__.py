"""What all other folders use: files written whole, errors in one sentence, progress, hardware, processes.

In come paths, numbers and the machine; out go files, lines on a terminal and what this machine can do.
"""
