"""What every bench is run with: its options, its model, its statistics, its tables and its last line."""
