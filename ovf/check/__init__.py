"""What checks the packages: own checks of what no tool looks at, and independent tools run on the outputs.

Every check returns its complaints as lines of text; none means that all is well.
"""
