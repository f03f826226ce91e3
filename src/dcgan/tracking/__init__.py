"""What is told to MLflow. It cannot change an out, and its failing never costs a training.

A stage writes events to the spool, a JSON-lines file on this machine (`events`, `spool`). A process of its own, the
sender, reads them from there and tells MLflow (`sender`, `store`), so that a slow or dead server is met by nobody else;
what it cannot send stays in the spool for the next sender. Every event can be sent twice and counts once.
"""
