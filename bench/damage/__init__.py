"""How much of planted damage `maskloop models inspect` finds, and how often it cries wolf."""
