"""What a server is told: flags, environment, file, and whether they make sense."""
