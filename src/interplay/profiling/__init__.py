"""What a method costs before it is trained: parameters, operations, memory of a step."""
