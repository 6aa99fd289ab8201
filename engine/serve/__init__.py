"""The service: one ASGI app over one engine, local and on Modal. Never imports torch.

Knows the wire (LIFT's contract, OpenAI's contract, errors, keys, limits) and `ServedEngine`. Does not know how tokens
are made.
"""
