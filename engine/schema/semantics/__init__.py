"""What keywords mean: from a subschema to its shape."""
