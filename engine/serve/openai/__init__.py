"""OpenAI's contract: chat completions, completions and responses, with tools and streams."""
