"""Where the time goes: `fcis benchmark`."""
