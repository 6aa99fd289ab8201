"""What became of each keyword occurrence."""
