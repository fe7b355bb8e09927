"""Widgets: each shows values and hands back what was chosen or typed. No logic, no input or output."""
