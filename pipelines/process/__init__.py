"""The process of a command or a worker: environment, signals, working directory and device."""
