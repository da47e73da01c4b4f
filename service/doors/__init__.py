"""The three doors of a house, opened after it works and closed before it stops."""
