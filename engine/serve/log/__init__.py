"""What happened to every request: JSON lines for people and bills, metrics for scrapers. Never a caller's text."""
