"""Regular expressions as judges read them: ECMA-262 in unicode mode. The compiler has a reading of its own."""
