"""From a command line's words and files to the engine's types."""
