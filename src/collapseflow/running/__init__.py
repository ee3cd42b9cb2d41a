"""What jobs of any kind need: files, devices, interruptions, errors, SLURM."""
