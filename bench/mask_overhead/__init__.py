"""What a constraint costs a step: our loop, the peer's, and their plot."""
