"""What all grammars of a vocabulary hold together: the rules they share, and how much their tables may be."""
