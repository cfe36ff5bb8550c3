"""From the frames of many files to grids of slices and times."""
