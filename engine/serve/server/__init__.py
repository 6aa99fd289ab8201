"""`maskloop serve`: connections that are counted and read strictly, and uvicorn with an orderly end."""
