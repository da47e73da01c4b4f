"""The hospital's own systems, as this server speaks to them."""
