"""The grammars, a file a language, in the notation of `engine.syntax.notation`."""
