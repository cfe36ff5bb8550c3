"""Commands that follow a series of images frame by frame."""
