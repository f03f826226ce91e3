"""One module a source of pictures. Each ends in the same contract, `dcgan.datasets.index`."""
