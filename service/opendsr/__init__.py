"""OpenDSR 2.0, the form in which privacy platforms send requests, in front of our own jobs."""
