"""Subscriptions (R4, subscription.html, and the Subscriptions R5 Backport IG 1.1): what is watched, what is sent."""
