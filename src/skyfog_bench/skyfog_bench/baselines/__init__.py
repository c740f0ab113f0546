"""What Skyfog is measured against."""
