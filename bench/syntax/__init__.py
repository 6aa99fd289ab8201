"""The parser of programs inside strings, over valid files and over the same with errors planted."""
