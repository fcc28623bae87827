"""Knowledge transfer: what a network learns from another one."""
