"""One module a data set, of the name that `dataset` has in params.yaml: being here makes it a choice.

Its `bring(raw, request)` fetches or draws the pictures; in come files of a server, of a package or of the user, out go
zip archives of pictures with their index (its contract: `dcgan.data.index`) in the new folder `raw`.
"""
