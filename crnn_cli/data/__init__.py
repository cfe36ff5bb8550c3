"""Arrays that know where they are: images, acquisitions, raw scans, sampling masks, slice geometry (numpy only)."""
