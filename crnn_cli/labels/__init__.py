"""What label maps say: names, overlap, surface distance, statistics, components (numpy and SimpleITK only)."""
