"""What a command works with: an engine, a grammar service, the files that results go to, and the terminal."""
