"""Training networks, epoch by epoch, on one or several devices."""
