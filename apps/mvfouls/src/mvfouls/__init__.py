"""Fouls of football recognised from several views: action class, severity, and offence."""
