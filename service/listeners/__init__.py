"""The three listeners of an application, opened after it works and closed before it stops."""
