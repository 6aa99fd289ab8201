"""The shortest legal ending of a document from wherever it stands."""
