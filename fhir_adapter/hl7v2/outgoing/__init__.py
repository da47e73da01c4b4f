"""Messages that this server sends, one file each."""
