"""`crnn batch`: its commands, and what it says of each input."""
