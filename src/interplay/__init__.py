"""Prompt interaction for frozen vision-language models."""
