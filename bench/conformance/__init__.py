"""One engine in a process of its own over labelled cases, and what the validator says of each test."""
