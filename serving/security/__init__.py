"""Who may ask what, and how much; names and files that come from outside."""
