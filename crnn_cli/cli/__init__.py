"""Words to calls: one file per command; everything heavy is imported inside the command's function."""
