"""How far drawn texts are from the model's own distribution, given that they are valid."""
