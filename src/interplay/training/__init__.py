"""Training by gradient: settings, Lightning module, checkpoints, prefix cache, and what a step costs."""
