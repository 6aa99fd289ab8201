"""Terms and shapes: what values a combination of subschemas allows, and the algebra of it."""
