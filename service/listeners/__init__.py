"""The three listeners of an application, opened after its start and closed before its end."""
