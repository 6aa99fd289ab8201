"""A service for a long time: clients that behave (`clients`) and clients that want to stop a server (`hostile`)."""
