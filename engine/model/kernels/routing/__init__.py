"""Which experts a token visits, and which tokens an expert sees."""
