"""What all routes share: the gate, JSON in and out with its limits, and failures as one body and one table of codes."""
