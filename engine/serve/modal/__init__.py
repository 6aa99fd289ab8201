"""One deployment on Modal: its settings, a container's life, and health without a container. Never imports modal."""
