"""What a container's start takes: the bench, and the probe that lies on the container's path."""
