"""What disease changes: one function for each kind of lesion, each led by the factor of its name.

Sizes are in disc diameters (DD, about 1800 micrometres).
"""
