"""The data sources: one module per data set. The module's name is the value of `dataset` in params.yaml.

A new module in this folder becomes a choice of `dataset`. Its function `bring(raw, request)` fetches or draws the
pictures. The inputs are files from a server, parts from a package, or the user's own files. The outputs are zip
archives of pictures and their index in the new folder `raw`; `dcgan.data.index` defines their format.
"""
