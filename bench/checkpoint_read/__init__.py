"""How fast weights leave the disk: the bench, and the readers it compares."""
