"""Files to images and back; no torch in this room."""
