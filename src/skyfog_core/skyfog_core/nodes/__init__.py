"""What every Skyfog node does the same way: parameters in, one main loop, one way out."""
