"""A package that adds to trajstore two measures, a group function and an importer."""
