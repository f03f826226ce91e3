"""What the stages share: where they are, their parameters and signals, several processes, and what MLflow is told.

In come params.yaml, dvc.yaml, dvc.lock and the environment; out go exit statuses and what MLflow is to hold. The
library knows nothing of this folder.
"""
