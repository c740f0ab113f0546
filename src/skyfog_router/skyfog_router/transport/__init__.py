"""How requests and replies travel; only `zenoh` knows zenoh."""
