"""Ray: session, resources, messages between processes, the torch trainer and signals."""
