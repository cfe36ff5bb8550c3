"""Label maps: names, overlap, surface distance, statistics, connected components (numpy and SimpleITK only)."""
