"""What a model's name means, and where its files come from: folders, the hub, converted GGUF files."""
