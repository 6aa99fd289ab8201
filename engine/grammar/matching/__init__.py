"""One request's place in its grammar: accept, roll back, masks and what guards leave of them, the judge's part."""
