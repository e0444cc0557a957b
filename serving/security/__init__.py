"""Authentication, limits for clients, TLS, and names from outside."""
