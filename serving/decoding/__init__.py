"""Decoding in processes that can be killed: the server's end, and what runs in them."""
