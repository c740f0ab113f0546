"""What users start: launch files, configuration, the `skyfog` command and the demo."""
