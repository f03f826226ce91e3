"""Code that the stages share: paths, parameters, signals, launching several processes, and logging to MLflow.

The inputs are params.yaml, dvc.yaml, dvc.lock and the environment. The outputs are exit statuses and the contents of
MLflow runs. The package `dcgan` does not depend on this folder.
"""
