"""The verbs of workflows, by noun. A step may run twice: it looks first, then acts."""
