"""Commands on the frames of a series."""
