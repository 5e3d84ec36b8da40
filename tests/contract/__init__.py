"""The contract that every method passes: rules, what they try a method on, and broken methods that must not pass."""
