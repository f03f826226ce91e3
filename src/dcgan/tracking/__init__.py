"""Logging to MLflow. It cannot change an out, and a failure to log never ends a training.

A stage writes what a run should contain into a folder on this machine (`run`, `run_folder`). A separate process, the
sender, uploads what MLflow lacks (`sender`, `store`), so that a slow or dead server affects no other process. What the
sender cannot upload stays in the folder for the next sender.
"""

from dcgan.tracking import mlflow_settings as mlflow_settings
