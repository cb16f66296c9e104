"""One module per way of running two halves of a model in two processes, each as its users would write it."""
