"""The commands, one file a group; each function imports what it needs, so that a light one starts at once."""
