"""An artificial agent for CT to cone-beam CT registration: the shared module behind the notebooks."""
