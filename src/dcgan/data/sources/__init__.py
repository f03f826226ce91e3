"""One module a data set: it fetches or draws the pictures, and leaves them in the form that `dcgan.data.index` says.

In come files of a server, of a package or of the user; out go containers of pictures and their index.
"""
