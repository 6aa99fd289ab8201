"""The caller's schema as it stands: dialects, references, embedded schemas, and the validator that judges by it."""
