"""Learning-rate schedules as pure functions of the position, and the parameter groups they multiply."""
