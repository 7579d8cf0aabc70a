"""What every room may use: files, names, the terminal."""
