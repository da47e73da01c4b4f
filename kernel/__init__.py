"""CoreServices floor: what must survive a crash, and what everyone may use."""
