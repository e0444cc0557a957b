"""Several machines, by Ray Serve: what its proxies take, a replica, and the application."""
