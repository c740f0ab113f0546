"""Where machines come from: one small protocol, one module a cloud."""
