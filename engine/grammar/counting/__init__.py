"""What has been written of a document, counted byte by byte: characters, keys, items, values."""
