"""`isobench doctor`: whether this host can run a campaign, and what to do where it cannot."""
