"""Values, arrays and objects as rules."""
