"""The gate: did a model become slower, bigger or less accurate, or can nobody know from what was measured."""
