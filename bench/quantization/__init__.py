"""What quantising costs under one grammar: variants of the weights, their scores, the documents they write."""
