"""The fewest faces a side for which scores are computed; a module of its own, since the report needs no torch."""

KERNEL_DISTANCE = 4  # two groups of two
NEIGHBOURS = 6  # a face and its five neighbours
COPIES = 400  # the nearest 1 % of fewer are 3 or less
