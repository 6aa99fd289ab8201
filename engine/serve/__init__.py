"""The service: one ASGI app over one engine, local and on Modal. Never imports torch."""
