"""The admin API, for the CLI and for people with a token."""
