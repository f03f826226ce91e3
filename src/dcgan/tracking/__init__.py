"""What MLflow is told. It cannot change an out, and its failing never costs a training.

A stage writes what a run should hold into a folder on this machine (`run`, `run_folder`). A process of its own, the
sender, uploads what MLflow lacks of it (`sender`, `store`), so that a slow or dead server is met by nobody else. What
it cannot upload stays in the folder for the next sender.
"""
